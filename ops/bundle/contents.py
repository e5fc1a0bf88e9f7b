"""What goes into a bundle: a file of the new checkout → where it is here."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from archives.catalogue import ModelSpec
from archives.errors import ArchivesError
from archives.fetch import find_snapshot
from archives.sources import FolderSource, HubSource
from archives.store import archive_path, digest_path, engines_folder, snapshots_folder, verification_path
from env.chooser import load_pins
from env.jdk import java_version, parse_major
from ops.bundle.install import BundleError

Files = dict[str, Path]


def git(root: Path, *words: str) -> str:
    """What git says in the checkout.

    Raises:
        BundleError: git is not there, or this is no repository.
    """
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BundleError("git is not on PATH, and says which files of the checkout are its own: install it") from error
    if done.returncode:
        raise BundleError(f"{root}: git {words[0]} failed: {done.stderr.strip()}: bundle from a clone")
    return done.stdout


def checkout(root: Path) -> Files:
    """The files that git tracks, as they are now."""
    return {name: root / name for name in git(root, "ls-files", "-z").split("\0") if name and (root / name).exists()}


def wheels(folder: Path) -> Files:
    """Where the set-up script looks first (env/installer.py)."""
    return {f"env/wheels/{path.name}": path for path in sorted(folder.iterdir())}


def jdk(home: Path) -> Files:
    """A JDK's folder, links followed, as env/jdk (env/jdk.py).

    Raises:
        BundleError: there is no Java of the pinned release in it.
    """
    wanted, version = load_pins()["jdk"]["wanted"], java_version(home / "bin" / "java")
    if version is None or parse_major(version) != wanted:
        said = f"is Java {version}" if version else "cannot be run"
        raise BundleError(f"--jdk {home}: {home / 'bin' / 'java'} {said}; name the folder of a JDK {wanted}")
    return below(home, "env/jdk")


def below(folder: Path, name: str) -> Files:
    """Every file below a folder that is not hidden, under a new name."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        f"{name}/{path.relative_to(folder)}": path
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def models(specs: Iterable[ModelSpec], store: Path) -> Files:
    """Archives with what was seen of them, and the snapshots of those that come from a hub.

    Raises:
        BundleError: a model was not made ready here, or lies where the bundle does not reach.
    """
    files: Files = {}
    for spec in specs:
        archive = archive_path(store, spec.name, spec.version)
        beside = (archive, digest_path(archive), verification_path(archive))
        missing = [path for path in beside if not path.exists()]
        if missing:
            raise BundleError(
                f"{missing[0]} is not there: `embedkit pack {spec.name}`, then `embedkit verify {spec.name}`"
            )
        files |= {path.name: path for path in beside}
        files |= below(engines_folder(store, spec.name), f"engines/{spec.name}")
        if isinstance(spec.source, FolderSource):
            raise BundleError(
                f"{spec.name} comes from {spec.source.folder}, which a bundle does not carry: "
                "take that folder along by itself, to the same path"
            )
        if isinstance(spec.source, HubSource):
            files |= _snapshot(spec, store)
    return {f"archives/store/{name}": path for name, path in files.items()}


def _snapshot(spec: ModelSpec, store: Path) -> Files:
    folder = snapshots_folder(store, spec.name)
    try:
        found = find_snapshot(spec, store)
    except ArchivesError as error:
        raise BundleError(str(error)) from error
    if found is None:
        raise BundleError(f"{spec.name} was not fetched here: run `embedkit fetch {spec.name}`")
    names = [path for path in folder.iterdir() if path.is_file()]
    commit = found.root.parent
    return below(commit, f"snapshots/{spec.name}/{commit.name}") | {
        f"snapshots/{spec.name}/{path.name}": path for path in names
    }
