"""What can go wrong between models.toml and a verified archive.

    ArchivesError
    ├── CatalogueError   models.toml: an unknown key, a bad value, an unknown model
    ├── FetchError       a source that cannot be had, or is not what it should be
    ├── PackError        an archive that cannot be made
    │   └── DamagedError a file it is made of is not what was fetched or kept
    ├── ArchiveError     a file in the store that is not a whole archive of this kit
    └── VerifyError      an archive whose content, load or vectors are wrong

Every message names the thing, its value and the next step: it is shown to people as it is.
"""

from pathlib import Path


class ArchivesError(RuntimeError):
    """The common base: catch this to report anything a user can cause in here."""


class CatalogueError(ArchivesError):
    """models.toml cannot be used, or the model asked for is not in it."""


class FetchError(ArchivesError):
    """A model's files cannot be had from their source, or are not a model this kit can serve."""


class PackError(ArchivesError):
    """An archive could not be made; the one that was there before, if any, is untouched."""


class DamagedError(PackError):
    """A file that is not what was fetched or kept, by its hash; `path` is the file."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path} is not what was fetched (its sha256 is {found}, not {expected}): it changed, or the disk errs. "
            "The next fetch has a hub's file again; in a folder or a package put the right one back, it is hashed anew"
        )
        self.path = path


class ArchiveError(ArchivesError):
    """A file that is not a whole archive of this kit."""


class VerifyError(ArchivesError):
    """An archive that must not be served: its content, its load or its vectors are wrong."""
