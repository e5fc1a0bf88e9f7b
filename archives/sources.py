"""Where a model's files come from: one of three tables in models.toml."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

COMMIT = re.compile(r"[0-9a-f]{40}")


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HubSource(_Source):
    """A repository on the Hugging Face hub, at a commit (40 hex digits) or, with a warning, a branch or tag."""

    hub: str = Field(pattern=r"^([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*$", max_length=96)
    revision: str = Field(pattern=r"^[A-Za-z0-9][\w./-]*$", max_length=200)

    @property
    def pinned(self) -> bool:
        """True if the revision is a commit, which cannot move."""
        return COMMIT.fullmatch(self.revision) is not None

    def describe(self) -> dict[str, str]:
        return {"hub": self.hub, "revision": self.revision}


class FolderSource(_Source):
    """A sentence-transformers folder on this machine; a relative path starts at the folder of models.toml."""

    folder: Path

    def describe(self) -> dict[str, str]:
        # The last name alone: the content is told by the revision, and an archive must not depend on where it was made.
        return {"folder": self.folder.name}


class PackageSource(_Source):
    """A folder inside an installed Python distribution; `path` starts where packages are installed."""

    package: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    path: str = Field(pattern=r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*$")

    def describe(self) -> dict[str, str]:
        return {"package": self.package, "path": self.path}


def _kind(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else vars(value) if isinstance(value, _Source) else ()
    return next((kind for kind in ("hub", "folder", "package") if kind in keys), None)


Source = Annotated[
    Annotated[HubSource, Tag("hub")]
    | Annotated[FolderSource, Tag("folder")]
    | Annotated[PackageSource, Tag("package")],
    Discriminator(
        _kind,
        custom_error_type="source_kind",
        custom_error_message=("expected one of { hub = …, revision = … }, { folder = … }, { package = …, path = … }"),
    ),
]
