"""Write a bundle: one uncompressed tar, since wheels are compressed already and weights do not compress."""

import hashlib
import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from archives.catalogue import ModelSpec
from archives.progress import Progress
from archives.snapshot import hash_file
from archives.store import fsync_folder
from env.chooser import load_pins
from ops.bundle import contents
from ops.bundle.install import FORMAT, MANIFEST, SCRIPT, TREE, BundleError, check_room
from ops.settings import ROOT

BLOCK = 512  # of a tar: a header each, and contents filled up to whole ones


@dataclass(frozen=True)
class Bundle:
    """A written bundle. `sha256` is the whole file's; `uncommitted` says that the checkout had changes."""

    path: Path
    bytes: int
    sha256: str
    files: int
    torch: str
    commit: str
    uncommitted: bool
    seconds: float


class Hashed(io.RawIOBase):
    """A file to write to, and the sha256 of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.file.write(data)


def write(
    output: Path, flavour: str, specs: Sequence[ModelSpec], *, store: Path, jdk: Path | None, progress: Progress
) -> Bundle:
    """Write the bundle of this checkout to `output`, which appears when it is whole.

    Raises:
        BundleError: something that belongs into it is not there or cannot be had, or the disk is too full.
    """
    started = time.monotonic()
    if output.is_dir():
        raise BundleError(f"{output} is a folder: name a file in it with --output")
    files = contents.models(specs, store)
    files |= contents.jdk(jdk) if jdk else {}
    files |= contents.checkout(ROOT)
    commit = contents.git(ROOT, "rev-parse", "HEAD").strip()
    uncommitted = bool(contents.git(ROOT, "status", "--porcelain", "--untracked-files=no"))
    if uncommitted:
        progress.say(f"the checkout has changes that are not committed in {commit[:12]}: they go along")
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        collect(flavour, work / "wheels", progress)
        files |= contents.wheels(work / "wheels")
        check_room(output.parent, sum(path.stat().st_size + 2 * BLOCK for path in files.values()))
        about = {
            "format": FORMAT,
            "kit": tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
            "commit": commit,
            "uncommitted": uncommitted,
            "torch": flavour,
            "python": load_pins()["python"]["version"],
            "machine": platform.machine(),
            "models": [spec.name for spec in specs],
        }
        part = work / output.name
        sha256 = write_tar(part, about, files, progress)
        size = part.stat().st_size
        part.replace(output)
        fsync_folder(output.parent)
    finally:
        shutil.rmtree(work)
    output.with_name(f"{output.name}.sha256").write_text(f"{sha256}  {output.name}\n", encoding="utf-8")
    return Bundle(output, size, sha256, len(files), flavour, commit, uncommitted, time.monotonic() - started)


def collect(flavour: str, folder: Path, progress: Progress) -> None:
    """Every file of the lock, hashes checked, from where pip's own settings point.

    Raises:
        BundleError: pip could not have all.
    """
    progress.say(f"collecting the {flavour} wheels; what pip says follows")
    command = [sys.executable, "-m", "ops.bundle.collect", flavour, str(folder)]
    # stdout is the result's, so pip's goes where progress goes.
    if subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode:
        raise BundleError(f"the {flavour} wheels could not all be had: the lines above say why")


def write_tar(target: Path, about: Mapping[str, Any], files: Mapping[str, Path], progress: Progress) -> str:
    """Write the tar; returns its sha256. The manifest comes before the files, so they are read twice."""
    total = sum(path.stat().st_size for path in files.values())
    listed, done = {}, 0
    for name, path in sorted(files.items()):
        entry = hash_file(path)
        listed[f"{TREE}{name}"] = {"sha256": entry.sha256, "bytes": entry.bytes}
        done += entry.bytes
        progress.advance("hash", done, total)
    manifest = json.dumps({**about, "bytes": done, "files": listed}, indent=1).encode()
    written = 0
    with target.open("xb") as file:
        out = Hashed(file)
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, SCRIPT, io.BytesIO(Path(__file__).with_name(SCRIPT).read_bytes()))
            _add(tar, MANIFEST, io.BytesIO(manifest))
            for name, path in sorted(files.items()):
                with path.open("rb") as source:
                    written += _add(tar, f"{TREE}{name}", source, path.stat().st_mode)
                progress.advance("write", written, total)
    return out.sha256.hexdigest()


def _add(tar: tarfile.TarFile, name: str, source: IO[bytes], mode: int = 0o644) -> int:
    member = tarfile.TarInfo(name)
    member.size = source.seek(0, io.SEEK_END)
    source.seek(0)
    member.mode = 0o755 if mode & 0o100 else 0o644
    member.mtime = int(time.time())
    tar.addfile(member, source)
    return member.size
