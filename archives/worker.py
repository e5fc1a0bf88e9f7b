"""The worker package that an archive carries, and the versions of what computes in it."""

import hashlib
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

import handlers
from archives.errors import PackError

COMPUTING = ("torch", "transformers", "sentence-transformers", "tokenizers", "safetensors", "numpy")
# Comes with the CPU lock alone.
OPTIONAL = ("openvino",)


def worker_sources(folder: Path | None = None) -> tuple[str, dict[str, bytes]]:
    """The modules of handlers/ under a package name made of their content, which nothing installed can stand in for.

    Returns: the package's name, and archive name → source.
    """
    folder = folder or Path(handlers.__file__).parent
    modules = {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}
    digest = hashlib.sha256()
    for name, content in modules.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    package = f"embedkit_worker_{digest.hexdigest()[:12]}"
    return package, {f"{package}/{name}": content for name, content in modules.items()}


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of these and, where it is installed, of OpenVINO, read from metadata: nothing heavy is imported.

    Raises:
        PackError: one of `names` is not installed.
    """
    versions = {}
    for name in (*names, *OPTIONAL):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            if name in OPTIONAL:
                continue
            raise PackError(f"{name} is not installed here, so no archive can be made for it: run `make up`") from error
    return versions
