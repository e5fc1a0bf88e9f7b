"""Download a pinned model from a Hugging Face hub: resumable, checked, and whole or not there.

HF_ENDPOINT, HF_TOKEN and the proxies of the environment apply as everywhere with huggingface_hub.
"""

import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from archives import selection, snapshot
from archives.errors import FetchError
from archives.hub_errors import explain, is_transient, wrong_size
from archives.progress import Progress
from archives.snapshot import FileEntry, Snapshot
from archives.sources import HubSource
from archives.store import flush, fsync_folder, write_whole
from handlers.model_folder import MODULES, metadata

ATTEMPTS = 5  # in a row without a new byte
PAUSE_SECONDS = 1.0  # before the second attempt; doubled for each further one
SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class Expected:
    """What the hub says of a file: its size, and a hash that is a sha256 (large files) or a git blob's sha1."""

    bytes: int
    digest: str


@dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    hub: str
    commit: str
    files: dict[str, Expected]


def endpoint() -> str:
    """The hub's address, read now: huggingface_hub itself reads HF_ENDPOINT once, when it is imported."""
    from huggingface_hub import constants  # type: ignore[import-untyped]

    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT


def find(name: str, source: HubSource, folder: Path) -> Snapshot | None:
    """What was fetched before of this source, or None."""
    commit = source.revision if source.pinned else _resolved(folder).get(f"{source.hub}@{source.revision}")
    return snapshot.load(name, folder / commit) if commit else None


def fetch(name: str, source: HubSource, folder: Path, progress: Progress, *, refresh: bool = False) -> Snapshot:
    """The source's snapshot in `folder`/<commit>, downloaded if it is not there.

    A cut connection leaves what came so far in a hidden folder, and the next run goes on from there; any other failure
    leaves nothing.

    Raises:
        FetchError: no hub, no such repository or revision, no permission, a wrong hash, a full disk, no model.
    """
    known = find(name, source, folder)
    if known and (source.pinned or not refresh):
        return known
    repository = _look_up(source)
    if not source.pinned:
        progress.say(
            f"{name}: revision {source.revision!r} of {source.hub} can move; it is at {repository.commit} now. "
            f"Put that commit into models.toml to get the same files everywhere."
        )
    final = folder / repository.commit
    found = snapshot.load(name, final)
    if found is None:
        found = _download(name, repository, folder, progress)
    if not source.pinned:
        _remember(folder, f"{source.hub}@{source.revision}", repository.commit)
    return found


def _resolved(folder: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, orjson.JSONDecodeError):
        known = orjson.loads((folder / "resolved.json").read_bytes())
        if isinstance(known, dict):
            return known
    return {}


def _remember(folder: Path, moving: str, commit: str) -> None:
    write_whole(folder / "resolved.json", orjson.dumps(_resolved(folder) | {moving: commit}))


def _look_up(source: HubSource) -> Repository:
    """Ask the hub which files the revision has. One request; nothing is written."""
    import requests
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=endpoint()).model_info(
            source.hub, revision=source.revision, files_metadata=True, timeout=20
        )
    except (requests.RequestException, OSError, ValueError) as error:
        raise FetchError(explain(error, source.hub, source.revision, endpoint())) from error
    except (KeyError, TypeError, AttributeError) as error:  # JSON, but not a hub's
        raise FetchError(f"{endpoint()} did not answer as a model hub about {source.hub}: check HF_ENDPOINT") from error
    if info.sha is None or (source.pinned and info.sha != source.revision):
        raise FetchError(f"{endpoint()} answered with commit {info.sha} for {source.hub}@{source.revision}: not a hub?")
    files = {}
    for sibling in info.siblings or []:
        digest = sibling.lfs["sha256"] if sibling.lfs else sibling.blob_id
        files[sibling.rfilename] = Expected(sibling.size or 0, digest or "")
    return Repository(source.hub, info.sha, files)


def _download(name: str, repository: Repository, folder: Path, progress: Progress) -> Snapshot:
    where = f"{repository.hub}@{repository.commit}"
    if MODULES not in repository.files:
        raise selection.no_modules(repository.files, where)
    partial = folder / f".partial-{repository.commit}"
    for other in folder.glob(".partial-*"):
        if other != partial:  # of a revision that is no longer asked for
            shutil.rmtree(other, ignore_errors=True)
    root, final = partial / "model", folder / repository.commit
    resumable = False

    def get(files: Iterable[str]) -> None:
        for each in files:
            _keep(final / "model" / each, root / each)
            _get(repository, each, root)

    try:
        root.mkdir(parents=True, exist_ok=True)
        _get(repository, MODULES, root)
        modules = selection.parse_modules((root / MODULES).read_bytes(), where)
        chosen = selection.choose(repository.files, modules, where)
        total = sum(repository.files[each].bytes for each in chosen)
        _require_space(root, total, where)
        small = [each for each in chosen if each in metadata(modules)]
        with _watched(root, total, progress):
            get(small)
            snapshot.contents_of(root, where)
            get([each for each in chosen if each not in small])
        shutil.rmtree(root / ".cache", ignore_errors=True)
        files = {each: _checked(repository, each, root) for each in chosen}
        source = {"hub": repository.hub, "revision": repository.commit}
        snapshot.save(Snapshot(name, source, repository.commit, root, files), partial)
        flush(partial)
        shutil.rmtree(final, ignore_errors=True)  # one that `load` refused
        partial.rename(final)
        fsync_folder(folder)
        return Snapshot(name, source, repository.commit, final / "model", files)
    except _CutError as error:
        resumable = _size(root) > 0
        raise FetchError(str(error)) from error.__cause__
    except KeyboardInterrupt:
        resumable = True
        raise
    finally:
        if not resumable:
            shutil.rmtree(partial, ignore_errors=True)


def _keep(before: Path, file: Path) -> None:
    """Take over a file of a snapshot that was damaged: huggingface_hub leaves a large one that has the announced hash,
    and removes any other before it downloads.
    """
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.hardlink_to(before)


class _CutError(FetchError):
    """The connection was lost for good: what came so far is worth keeping."""


def _get(repository: Repository, file: str, root: Path) -> None:
    """Download one file into `root`, going on where an earlier attempt stopped."""
    import requests
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import (  # type: ignore[import-untyped]
        are_progress_bars_disabled,
        disable_progress_bars,
    )

    bars = "huggingface_hub.http_get"
    if not are_progress_bars_disabled(bars):
        disable_progress_bars(bars)  # ours counts the whole model
    failures, best = 0, _size(root)
    for folder in (root, root / ".cache" / "huggingface" / "download"):
        # huggingface_hub makes these once a process for each path, and here the same path may be new again
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            hf_hub_download(repository.hub, file, revision=repository.commit, local_dir=root, endpoint=endpoint())
            return
        except (requests.RequestException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None and not hasattr(error, "response"):
                raise  # the disk's, not the hub's
            if not is_transient(error):
                raise FetchError(explain(error, repository.hub, repository.commit, endpoint(), file=file)) from error
            if wrong_size(error):
                # Longer or shorter than announced: a server that does not know Range was asked to go on. Begin anew.
                for leftover in (root / ".cache").rglob("*.incomplete"):
                    leftover.unlink(missing_ok=True)
            size = _size(root)
            failures, best = (failures + 1, best) if size <= best else (1, size)
            if failures >= ATTEMPTS:
                said = explain(error, repository.hub, repository.commit, endpoint(), file=file)
                raise _CutError(f"{said}. Run the same command again: it goes on where it stopped") from error
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def _checked(repository: Repository, file: str, root: Path) -> FileEntry:
    """Hash a downloaded file and compare it with what the hub announced."""
    entry, announced = snapshot.hash_file(root / file), repository.files[file].digest or _etag(repository, file)
    if len(announced) == 64:
        actual = entry.sha256
    else:  # a small file lies in git itself: git's own name for that content
        content = (root / file).read_bytes()
        actual = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if actual != announced:
        raise FetchError(
            f"{repository.hub}@{repository.commit}: {file} arrived with the hash {actual}, the hub announced "
            f"{announced}: something between here and {endpoint()} changes files. Nothing was kept; try again, "
            "or set HF_ENDPOINT to another mirror"
        )
    return entry


def _etag(repository: Repository, file: str) -> str:
    """The same hash from the file's own headers: mirrors do not all list hashes."""
    import requests
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository.hub, file, revision=repository.commit, endpoint=endpoint())
    try:
        return get_hf_file_metadata(url, timeout=20).etag or ""
    except (requests.RequestException, OSError) as error:
        raise FetchError(explain(error, repository.hub, repository.commit, endpoint(), file=file)) from error


def _require_space(folder: Path, total: int, where: str) -> None:
    missing = total - _size(folder) + SPARE_BYTES - shutil.disk_usage(folder).free
    if missing > 0:
        raise FetchError(
            f"{where} takes {total >> 20} MB, and the disk of {folder.parents[3]} lacks {(missing >> 20) + 1} MB of "
            "it: make room, or set `store` to another disk"
        )


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # renamed meanwhile
            size += path.stat().st_size if path.is_file() else 0
    return size


@contextlib.contextmanager
def _watched(folder: Path, total: int, progress: Progress) -> Iterator[None]:
    """Tell the bytes on disk while the block downloads: it counts what was resumed, whoever wrote it."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            progress.advance("download", max(0, min(_size(folder), total - 1)), total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
        stop.set()
        thread.join()
        progress.advance("download", total, total)
    finally:
        stop.set()
        thread.join()
