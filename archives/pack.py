"""Make an archive: skeleton by torch-model-archiver, weights moved once, whole or not there."""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from archives.archive import read_manifest
from archives.catalogue import ModelSpec
from archives.errors import ArchiveError, DamagedError, PackError
from archives.placement import Layout
from archives.plan import MANIFEST_NAME, LockInfo, Moved, Plan, make_plan
from archives.progress import SILENT, Progress
from archives.pump import Pump
from archives.resolve import Resolution, known, resolve
from archives.skeleton import make_skeleton
from archives.snapshot import Snapshot, forget, hash_file
from archives.store import (
    archive_path,
    digest_path,
    disk_errors,
    engines_folder,
    fsync_folder,
    locked,
    staging,
    verification_path,
    write_whole,
)
from archives.stored_zip import StoredZip

__all__ = ["LockInfo", "PackedArchive", "archive_digest", "is_current", "pack"]


@dataclass(frozen=True)
class PackedArchive:
    """An archive in the store. `sha256` is the file's; `changed` is False where it was already what pack makes."""

    path: Path
    sha256: str
    manifest: Mapping[str, Any]
    changed: bool


def is_current(spec: ModelSpec, snapshot: Snapshot, layout: Layout, store: Path, *, lock: LockInfo) -> bool:
    """True if the archive in the store is what `pack` would make now; reads its manifest only."""
    resolution = known(spec, snapshot, store, layout)
    return resolution is not None and _current(make_plan(spec, snapshot, resolution, layout, lock), store) is not None


def pack(
    spec: ModelSpec,
    snapshot: Snapshot,
    layout: Layout,
    store: Path,
    *,
    lock: LockInfo,
    progress: Progress = SILENT,
    anew: bool = False,
    resolution: Resolution | None = None,
) -> PackedArchive:
    """Make the model's archive in the store, or leave the one there where it already is what would be made.

    Backend and dtype are decided first where models.toml leaves them open (archives/resolve.py).

    The file appears under its name once it is complete and on disk; before that nothing of it does.

    Args:
        anew: choose and pack again, whatever is kept.
        resolution: how it is served, where that was decided before.

    Raises:
        PackError: a handler is missing, the archiver failed, the disk is full.
        DamagedError: a file of the model is not what was fetched; the next fetch looks at all of them.
    """
    with disk_errors(PackError, f"packing {spec.name}", store), locked(store, spec.name):

        def make(*, anew: bool) -> PackedArchive:
            decided = resolution or resolve(spec, snapshot, store, layout, progress=progress, anew=anew)
            plan = make_plan(spec, snapshot, decided, layout.on(decided.device), lock)
            return _pack(plan, snapshot, store, progress, anew=anew)

        try:
            return make(anew=anew)
        except DamagedError as error:
            if engines_folder(store, spec.name) not in error.path.parents:
                forget(snapshot, store)
                raise
            progress.say(f"{spec.name}: {error.path} is damaged: choosing again")
            return make(anew=True)


def _pack(plan: Plan, snapshot: Snapshot, store: Path, progress: Progress, *, anew: bool) -> PackedArchive:
    spec = plan.spec
    path = archive_path(store, spec.name, spec.version)
    if not anew and (current := _current(plan, store)) is not None:
        return PackedArchive(path, archive_digest(path), current, changed=False)
    if left_out := snapshot.contents.left_out:
        progress.say(f"{spec.name}: not packed, as nothing of it is evaluated: {', '.join(left_out)}")
    with staging(store, spec.name) as folder:
        small = make_skeleton(spec.name, spec.version, plan.small, folder / "skeleton")
        manifest = _manifest(plan, small)
        small[MANIFEST_NAME] = orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        made = folder / path.name
        sha256 = _write(made, small, plan.moved, progress)
        # What is said of the old archive goes first: a digest or verification may be missing, but never be wrong.
        digest_path(path).unlink(missing_ok=True)
        verification_path(path).unlink(missing_ok=True)
        made.replace(path)
        fsync_folder(path.parent)
        _save_digest(path, sha256)
    return PackedArchive(path, sha256, manifest, changed=True)


def archive_digest(path: Path) -> str:
    """The archive's sha256 as pack wrote it beside it; hashed anew where that run ended in between."""
    try:
        sha256, name = digest_path(path).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        sha256, name = "", ""
    if name != path.name or len(sha256) != 64:
        sha256 = hash_file(path).sha256
        _save_digest(path, sha256)
    return sha256


def _save_digest(path: Path, sha256: str) -> None:
    write_whole(digest_path(path), f"{sha256}  {path.name}\n".encode())


def _current(plan: Plan, store: Path) -> Mapping[str, Any] | None:
    path = archive_path(store, plan.spec.name, plan.spec.version)
    if not digest_path(path).exists():  # the run that made it ended in between, or verify found it damaged
        return None
    try:
        manifest = read_manifest(path)
    except ArchiveError:
        return None
    return manifest if manifest["inputs"] == plan.inputs else None


def _manifest(plan: Plan, small: Mapping[str, bytes]) -> dict[str, Any]:
    files = {
        path: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for path, content in small.items()
    }
    for path, one in plan.moved.items():
        files[path] = {"sha256": one.entry.sha256, "bytes": one.entry.bytes}
    return {**plan.manifest, "files": dict(sorted(files.items()))}


def _write(target: Path, small: Mapping[str, bytes], moved: Mapping[str, Moved], progress: Progress) -> str:
    """Write the zip, members sorted; returns the sha256 of the whole file."""
    done, total = 0, sum(one.entry.bytes for one in moved.values())
    with target.open("xb", buffering=0) as file, Pump(file) as pump:
        archive = StoredZip(pump.write)
        for name in sorted({*small, *moved}):
            if name in small:
                archive.begin(name, len(small[name]), zlib.crc32(small[name]))
                archive.write(small[name])
                continue
            entry, source = moved[name].entry, moved[name].source
            archive.begin(name, entry.bytes, entry.crc32)
            try:
                with pump.hashing() as content:
                    for piece in pump.pieces(source, entry.bytes, content):
                        archive.write(piece)
                        done += len(piece)
                        progress.advance("pack", done, total)
            except EOFError as error:
                raise DamagedError(source, entry.sha256, f"that of {error}") from error
            if content.hexdigest() != entry.sha256:
                raise DamagedError(source, entry.sha256, content.hexdigest())
        archive.finish()
        return pump.finish()
