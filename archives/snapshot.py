"""A snapshot: a model's files in one place, each with its hash, under a revision that names exactly them.

What is served of them is the same files, but for the small ones that something is left out of (`served`, `lay_out`).
"""

import contextlib
import hashlib
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import orjson

from archives.errors import DamagedError, FetchError
from archives.progress import SILENT, Progress
from archives.selection import is_weights
from archives.store import snapshots_folder, write_whole
from handlers.model_folder import Contents, LoadError, read_contents

CHUNK = 4 << 20
TRAINED_WITH = "config_sentence_transformers.json"


@dataclass(frozen=True)
class FileEntry:
    """What is known of a file: hex sha256, size in bytes, CRC-32 (a zip's header asks for it before the content)."""

    sha256: str
    bytes: int
    crc32: int


@dataclass(frozen=True)
class Snapshot:
    """A model's files. `files` maps a name relative to `root`, with forward slashes, to what is known of it.

    `revision` is a commit (hub), a package's version, or a sha256 over the content (folder).
    """

    name: str
    source: Mapping[str, str]
    revision: str
    root: Path
    files: Mapping[str, FileEntry]

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.files.values())

    @cached_property
    def contents(self) -> Contents:
        """What the folder holds.

        Raises:
            DamagedError: a file beside the weights is not what was fetched.
            FetchError: it holds anything that may not be served.
        """
        check(self, [name for name in self.files if not is_weights(name)])
        return contents_of(self.root, str(self.root))

    @property
    def served(self) -> dict[str, FileEntry]:
        """The files as they are served: `files`, with what is known of the contents put in place of some."""
        replaced = self.contents.replaced
        return {name: entry_of(replaced[name]) if name in replaced else entry for name, entry in self.files.items()}

    def lay_out(self, folder: Path) -> None:
        """Make `folder` hold the files as they are served: links, and those whose contents are replaced."""
        for name in self.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name in self.contents.replaced:
                target.write_bytes(self.contents.replaced[name])
            else:
                target.symlink_to((self.root / name).absolute())

    @property
    def trained_with(self) -> dict[str, str]:
        """Library → version that the model was made with, as far as it says; empty if it does not."""
        if TRAINED_WITH not in self.files:
            return {}
        try:
            versions = orjson.loads((self.root / TRAINED_WITH).read_bytes()).get("__version__")
        except (OSError, orjson.JSONDecodeError, AttributeError):
            return {}
        return {str(key): str(value) for key, value in versions.items()} if isinstance(versions, dict) else {}

    @property
    def parameters(self) -> int:
        """How many numbers the weights hold, for `archives.placement.need`."""
        return sum(_parameters(self.root / name, entry.bytes) for name, entry in self.files.items())


def contents_of(root: Path, where: str) -> Contents:
    """What a folder holds, by its small files; `where` is what errors call it.

    Raises:
        FetchError: it holds something that may not be served.
    """
    try:
        return read_contents(root)
    except LoadError as error:
        raise FetchError(str(error).replace(str(root), where)) from error


def _parameters(path: Path, size: int) -> int:
    if path.suffix == ".bin":
        return size // 4  # a pickle says its types only when loaded: taken for float32
    if path.suffix != ".safetensors":
        return 0
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError(f"a header of {length} bytes")
            header = orjson.loads(file.read(length))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(f"{path}: not a safetensors file ({error}): get the model again") from error


def hash_file(path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> FileEntry:
    """Read a file once; `on_bytes` gets the size of each piece read."""
    sha256, crc, size = hashlib.sha256(), 0, 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            sha256.update(view[:count])
            crc = zlib.crc32(view[:count], crc)
            size += count
            on_bytes(count)
    return FileEntry(sha256.hexdigest(), size, crc)


def entry_of(content: bytes) -> FileEntry:
    """The same of content in memory."""
    return FileEntry(hashlib.sha256(content).hexdigest(), len(content), zlib.crc32(content))


def content_revision(files: Mapping[str, FileEntry]) -> str:
    """The revision of a folder: sha256 over the sorted names and hashes of its files."""
    lines = (f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class HashCache:
    """Hashes of files that lie outside the store, kept for as long as size, times and inode stay the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[int | str]] = {}
        self._changed = False
        with contextlib.suppress(OSError, orjson.JSONDecodeError):
            known = orjson.loads(path.read_bytes())
            self._known = known if isinstance(known, dict) else {}

    def get(self, path: Path, on_bytes: Callable[[int], None]) -> FileEntry:
        """The file's hash, from the cache where nothing says that it changed."""
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if known and known[: len(stamp)] == stamp:
            on_bytes(stat.st_size)
            return FileEntry(str(known[4]), stat.st_size, int(known[5]))
        entry = hash_file(path, on_bytes)
        if entry.bytes != stat.st_size or path.stat().st_mtime_ns != stat.st_mtime_ns:
            raise FetchError(f"{path} changed while it was read: wait until it is complete and run it again")
        self._known[str(path)] = [*stamp, entry.sha256, entry.crc32]
        self._changed = True
        return entry

    def save(self) -> None:
        """Keep what is known of files that are still there."""
        if self._changed:
            kept = {name: known for name, known in self._known.items() if os.path.lexists(name)}
            write_whole(self._path, orjson.dumps(kept))


def save(snapshot: Snapshot, folder: Path) -> None:
    """Write `snapshot.json` of a fetched snapshot into its folder."""
    record = {
        "source": dict(snapshot.source),
        "revision": snapshot.revision,
        "files": {
            name: {"sha256": entry.sha256, "bytes": entry.bytes, "crc32": entry.crc32}
            for name, entry in snapshot.files.items()
        },
    }
    write_whole(folder / "snapshot.json", orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))


def check(snapshot: Snapshot, names: Iterable[str], progress: Progress = SILENT) -> None:
    """Hash these files. Raises DamagedError for the first that is not what was fetched."""
    done = 0
    for name in names:
        entry, found = snapshot.files[name], hash_file(snapshot.root / name)
        if found.sha256 != entry.sha256:
            raise DamagedError(snapshot.root / name, entry.sha256, found.sha256)
        progress.advance("hash", done := done + entry.bytes, snapshot.bytes)


def forget(snapshot: Snapshot, store: Path) -> None:
    """Let the next fetch look at every file: one of them was found to be damaged."""
    folder = snapshots_folder(store, snapshot.name)
    record = folder / snapshot.revision / "snapshot.json" if "hub" in snapshot.source else folder / "hashes.json"
    record.unlink(missing_ok=True)


def load(name: str, folder: Path) -> Snapshot | None:
    """The snapshot in this folder, or None where there is none or a file of it has gone or changed its size."""
    try:
        record = orjson.loads((folder / "snapshot.json").read_bytes())
        files = {key: FileEntry(**entry) for key, entry in record["files"].items()}
        root = folder / "model"
        whole = all((root / key).stat().st_size == entry.bytes for key, entry in files.items())
        return Snapshot(name, record["source"], record["revision"], root, files) if whole else None
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return None
