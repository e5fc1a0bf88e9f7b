"""Set up a checkout from a bundle, on a machine that may have nothing of embedkit. Standard library only.

    tar xf BUNDLE install.py
    python3.11 install.py BUNDLE [TARGET]      TARGET: a new folder, ./embedkit if not named

Every checksum is compared before a file is written, and the folder appears under its name when it is whole.
"""

import argparse
import hashlib
import json
import platform
import shlex
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

FORMAT = 1
MANIFEST = "manifest.json"
SCRIPT = "install.py"
TREE = "tree/"  # members below it are the files of TARGET
MANIFEST_LIMIT = 64 << 20
PIECE = 1 << 20
DAMAGED = "damaged or cut off: carry it over again"

Advance = Callable[[str, int, int], None]


class BundleError(RuntimeError):
    """The bundle cannot be written or installed; the message names what, and the next step."""


class UnfitError(Exception):
    """What is wrong with a bundle's content, in words."""


@dataclass(frozen=True)
class Installed:
    """A new checkout. `torch` is the lock whose wheels it has, `models` those whose archives came along."""

    target: Path
    torch: str
    models: list[str]
    files: int
    bytes: int


@contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The bundle as a tar; whatever is found wrong while it is read is told with its path.

    Raises:
        BundleError: it is not there, or no whole tar.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such bundle")
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except tarfile.ReadError as error:
        raise BundleError(f"{path}: {DAMAGED} ({error})") from error
    except UnfitError as error:
        raise BundleError(f"{path}: {error}") from error


def checked_manifest(content: bytes) -> dict[str, Any]:
    """What a bundle says of itself.

    Raises:
        UnfitError: it is no manifest of this format, or names a file outside the tree.
    """
    try:
        manifest: dict[str, Any] = json.loads(content)
        files = {str(name): (str(one["sha256"]), int(one["bytes"])) for name, one in manifest["files"].items()}
        torch, made_for = str(manifest["torch"]), (manifest["python"], manifest["machine"])
        manifest["bytes"], manifest["models"] = int(manifest["bytes"]), list(manifest["models"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnfitError(f"{DAMAGED} ({MANIFEST}: {error})") from error
    if manifest.get("format") != FORMAT:
        raise UnfitError(f"of format {manifest.get('format')}, this reads {FORMAT}: use its own {SCRIPT}")
    for name in files:
        if not inside(name):
            raise UnfitError(f"file {name!r} leads out of the bundle: do not use it")
    here = (f"{sys.version_info[0]}.{sys.version_info[1]}", platform.machine())
    if made_for != here:
        raise UnfitError(
            f"has the {torch} wheels of Python {made_for[0]} on {made_for[1]}; "
            f"this is Python {here[0]} ({sys.executable}) on {here[1]}"
        )
    return manifest


def inside(name: str) -> bool:
    """Whether a member's name is a plain path below TREE."""
    parts = PurePosixPath(name).parts
    return name.startswith(TREE) and name == "/".join(parts) and ".." not in parts and "\\" not in name


def members(tar: tarfile.TarFile) -> tuple[dict[str, Any], list[tarfile.TarInfo]]:
    """The manifest and the files of the tree, in the order of the tar.

    Raises:
        UnfitError: what is in the tar is not what its manifest lists.
    """
    found = tar.getmembers()
    names = [one.name for one in found]
    if names[:2] != [SCRIPT, MANIFEST] or found[1].size > MANIFEST_LIMIT:
        raise UnfitError(f"no bundle of embedkit, or {DAMAGED}")
    manifest = checked_manifest(content_of(tar, found[1]).read())
    tree = found[2:]
    for one in tree:
        if not one.isreg() or not inside(one.name):
            raise UnfitError(f"member {one.name!r} is no plain file of the bundle: do not use it")
    listed = manifest["files"]
    missing = sorted(set(listed) - set(names))
    if missing:
        raise UnfitError(f"{DAMAGED} ({len(missing)} files are missing, such as {missing[0]})")
    if len(tree) != len(listed):
        raise UnfitError("has files that its manifest does not list: do not use it")
    return manifest, tree


def content_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """A regular member's content as a file."""
    content = tar.extractfile(member)
    assert content is not None
    return content


def verify(tar: tarfile.TarFile, manifest: dict[str, Any], tree: list[tarfile.TarInfo], advance: Advance) -> None:
    """Compare every file with its checksum.

    Raises:
        UnfitError: one differs.
    """
    done = 0
    for one in tree:
        wanted = manifest["files"][one.name]
        digest = hashlib.sha256()
        content = content_of(tar, one)
        while piece := content.read(PIECE):
            digest.update(piece)
            done += len(piece)
            advance("verify", done, manifest["bytes"])
        if digest.hexdigest() != wanted["sha256"] or one.size != wanted["bytes"]:
            raise UnfitError(f"{DAMAGED} ({one.name.removeprefix(TREE)} has another checksum)")


def unpack(tar: tarfile.TarFile, total: int, tree: list[tarfile.TarInfo], folder: Path, advance: Advance) -> None:
    """Write the tree below a folder."""
    done = 0
    for one in tree:
        path = folder / one.name.removeprefix(TREE)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = content_of(tar, one)
        with path.open("xb") as file:
            while piece := content.read(PIECE):
                file.write(piece)
                done += len(piece)
                advance("unpack", done, total)
        path.chmod(0o755 if one.mode & 0o100 else 0o644)


def check_room(folder: Path, needed: int) -> None:
    """Refuse what would fill the disk.

    Raises:
        BundleError: the bundle is larger than what is free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BundleError(f"{folder} has {free >> 20} MB free and the bundle needs {needed >> 20} MB: make room")


def install(bundle: Path, target: Path, advance: Advance = lambda step, done, total: None) -> Installed:
    """Make `target` from a bundle: whole, or not there.

    Raises:
        BundleError: the bundle is damaged, for another machine, or does not fit; or something is there already.
    """
    target = target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BundleError(f"{target} is there already: name a new folder, or move it away")
    with opened(bundle) as tar:
        manifest, tree = members(tar)
        target.parent.mkdir(parents=True, exist_ok=True)
        check_room(target.parent, manifest["bytes"])
        verify(tar, manifest, tree, advance)
        part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            part.chmod(0o755)
            unpack(tar, manifest["bytes"], tree, part, advance)
            part.replace(target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return Installed(target, manifest["torch"], manifest["models"], len(tree), manifest["bytes"])


def next_steps(done: Installed) -> str:
    """What to do in the new checkout."""
    folder, python = shlex.quote(str(done.target)), shlex.quote(sys.executable)
    return f"  cd {folder}\n  TORCH={done.torch} make up PYTHON={python}"


def _told(step: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{step}: {done >> 20} of {total >> 20} MB", end="" if done < total else "\n", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("target", type=Path, nargs="?", default=Path("embedkit"))
    wanted = parser.parse_args()
    try:
        done = install(wanted.bundle, wanted.target, _told)
    except BundleError as error:
        print(f"embedkit: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"embedkit: {error.filename or wanted.target}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nembedkit: interrupted, nothing was installed", file=sys.stderr)
        return 130
    print(f"{done.files} files, {done.bytes >> 20} MB in {done.target}. Next:\n{next_steps(done)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
