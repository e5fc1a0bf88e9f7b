"""Have a model's files: downloaded from a hub into the store, or found in a folder or a package and left there."""

import contextlib
import importlib.metadata
from dataclasses import replace
from pathlib import Path

from archives import hub, selection
from archives.catalogue import ModelSpec
from archives.errors import DamagedError, FetchError
from archives.progress import SILENT, Progress
from archives.snapshot import HashCache, Snapshot, content_revision, contents_of, forget
from archives.sources import HubSource, PackageSource
from archives.store import disk_errors, locked, snapshots_folder
from handlers.model_folder import MODULES


def fetch(spec: ModelSpec, store: Path, *, progress: Progress = SILENT, refresh: bool = False) -> Snapshot:
    """Get the files of a model, or find them already there (then without any network).

    Args:
        refresh: ask the hub again where a branch or tag has moved to; of no effect on a commit.

    Raises:
        FetchError: the source cannot be had or is no model that can be served; names the cause and the next step.
    """
    source = spec.source
    with disk_errors(FetchError, f"fetching {spec.name}", store), locked(store, spec.name):
        if isinstance(source, HubSource):
            folder = snapshots_folder(store, spec.name)
            found = hub.fetch(spec.name, source, folder, progress, refresh=refresh)
            try:
                return _still_served(found)
            except DamagedError as error:
                progress.say(f"{spec.name}: {error}")
                forget(found, store)
                return _still_served(hub.fetch(spec.name, source, folder, progress))
        if isinstance(source, PackageSource):
            version, root = _installed(source)
            return _in_place(spec, root, version, store, progress)
        return _in_place(spec, source.folder, None, store, progress)


def find_snapshot(spec: ModelSpec, store: Path) -> Snapshot | None:
    """The model's files if they are here, undamaged; asks no hub. A folder or package is always looked at anew.

    Raises:
        FetchError: the folder or package is not there, or what is there may not be served.
    """
    if isinstance(spec.source, HubSource):
        found = hub.find(spec.name, spec.source, snapshots_folder(store, spec.name))
        with contextlib.suppress(DamagedError):
            return found and _still_served(found)
        return None
    return fetch(spec, store)


def _still_served(found: Snapshot) -> Snapshot:
    """What is served of it today: an older kit may have fetched it, and taken more."""
    chosen = selection.choose(found.files, found.contents.modules, str(found.root))
    return replace(found, files={name: found.files[name] for name in chosen})


def _installed(source: PackageSource) -> tuple[str, Path]:
    try:
        distribution = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError as error:
        raise FetchError(f"package {source.package} is not installed here: run `make up`, or install it") from error
    root = Path(str(distribution.locate_file(source.path)))
    if not root.is_dir():
        raise FetchError(f"package {source.package} {distribution.version} has no folder {source.path}: check `path`")
    return distribution.version, root


def _in_place(spec: ModelSpec, root: Path, revision: str | None, store: Path, progress: Progress) -> Snapshot:
    """Look at a folder where it lies: choose its files and hash them, or remember their hashes."""
    where = str(root)
    if not root.is_dir():
        raise FetchError(f"{where}: no such folder: check `source` of {spec.name} in models.toml")
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    if MODULES not in names:
        raise selection.no_modules(names, where)
    chosen = selection.choose(names, contents_of(root, where).modules, where)  # refused before gigabytes are hashed
    total = sum((root / name).stat().st_size for name in chosen)
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        progress.advance("hash", done, total)

    cache = HashCache(snapshots_folder(store, spec.name) / "hashes.json")
    files = {name: cache.get(root / name, on_bytes) for name in chosen}
    cache.save()
    return Snapshot(spec.name, spec.source.describe(), revision or content_revision(files), root, files)
