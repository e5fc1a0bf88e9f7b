"""The store: where snapshots and archives lie, who may write there, and how files appear whole.

store/
  <name>-<version>.mar              the archive
  <name>-<version>.mar.sha256       its digest, as `sha256sum -c` reads it
  <name>-<version>.verified.json    what `verify` saw of it
  snapshots/<name>/<revision>/      what `fetch` got from a hub
  engines/<name>/<digest>/          what choosing its backend and dtype came to (archives/resolve.py)
  staging/<name>/                   the run in progress; whatever lies here is worth nothing
  locks/<name>.lock                 the run that fetches or packs
  locks/<name>.archive.lock         the run that needs the archive to stay what it is
  served/, owners/                  what is in service, and whose it is (ops/served.py, ops/store_owners.py)
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from archives.errors import ArchivesError


def snapshots_folder(store: Path, name: str) -> Path:
    return store / "snapshots" / name


def engines_folder(store: Path, name: str) -> Path:
    return store / "engines" / name


def archive_path(store: Path, name: str, version: str) -> Path:
    return store / f"{name}-{version}.mar"


def digest_path(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")


def verification_path(archive: Path) -> Path:
    """The sidecar that `verify` writes beside an archive."""
    return archive.with_name(f"{archive.name.removesuffix('.mar')}.verified.json")


def _staging_folder(store: Path, name: str) -> Path:
    return store / "staging" / name


@contextlib.contextmanager
def locked(store: Path, name: str) -> Iterator[None]:
    """Be the only one to fetch or pack this model; waits for another, ends with the process.

    What a run that died has left in `staging` is removed.
    """
    with held(store / "locks" / f"{name}.lock"):
        shutil.rmtree(_staging_folder(store, name), ignore_errors=True)
        yield


def archive_locked(store: Path, name: str) -> contextlib.AbstractContextManager[None]:
    """Have the model's archives stay what they are between packing, verifying and taking one into service: another
    deployment with this store may pack the same version from other settings. `locked` may be taken within."""
    return held(store / "locks" / f"{name}.archive.lock")


@contextlib.contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold a lock file until the block ends; waits for another, ends with the process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def staging(store: Path, name: str) -> Iterator[Path]:
    """An empty private folder for this run, removed at its end. Use it under `locked`."""
    folder = _staging_folder(store, name)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fsync_folder(folder: Path) -> None:
    """Make renames in this folder outlast a power cut."""
    _fsync(folder)


def flush(path: Path) -> None:
    """Put a file, or a folder and all below it, on disk: before it gets its final name, or a power cut may leave the
    name with other content.
    """
    for each in (*path.rglob("*"), path):
        _fsync(each)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file so that a reader, or a crash, sees the old or the new content and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
        fsync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def disk_errors(kind: type[ArchivesError], doing: str, folder: Path) -> Iterator[None]:
    """Tell a full disk, a missing permission and the like in words; anything else passes."""
    try:
        yield
    except OSError as error:
        at = error.filename or folder
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            free = _free(folder)
            raise kind(
                f"{doing}: no space left on the disk of {folder} ({free}): make room and run it again"
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise kind(f"{doing}: {at} cannot be written or read ({error.strerror}): mend its permissions") from error
        if error.errno is not None:
            raise kind(f"{doing}: {at}: {error.strerror}") from error
        raise


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free >> 20} MB free"
    except OSError:
        return "free space unknown"
