"""Prove an archive: every file's hash, then a load and some texts in a process that knows nothing but the archive."""

import contextlib
import datetime
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from archives.archive import opened, read_archive
from archives.errors import ArchivesError, VerifyError
from archives.plan import MANIFEST_NAME
from archives.progress import SILENT, Progress
from archives.snapshot import hash_file
from archives.store import digest_path, disk_errors, verification_path, write_whole

CHUNK = 4 << 20
COSINE = {"float32": 0.99999, "bfloat16": 0.999, "float16": 0.999}
_TEMPORARY = "embedkit-verify-"
# What a worker needs of the environment: nothing that could put other code into it.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Verification:
    """What was seen of an archive. `vectors` are plain sentence-transformers' in float32, L2-normalised, a list a text.

    It is of the file whose digest is `archive_sha256`; `verified_at` is ISO 8601 in UTC.
    """

    archive_sha256: str
    verified_at: str
    fingerprint: str
    dimensions: int
    texts: list[str]
    vectors: list[list[float]]
    min_cosine: float


def verify(
    archive: Path, *, python: str = sys.executable, progress: Progress = SILENT, timeout_s: float = 1800
) -> Verification:
    """Check the archive's content, load it as TorchServe would, compare its vectors; write the sidecar beside it.

    Raises:
        ArchiveError: the file is not a whole archive of this kit.
        VerifyError: a file differs from the manifest, the archive does not load (with the real error), or its vectors
            are not those of plain sentence-transformers. A sidecar of an earlier verification is removed then.
    """
    sidecar = verification_path(archive)
    try:
        verification = _verify(archive, python, progress, timeout_s)
    except BaseException as error:
        sidecar.unlink(missing_ok=True)
        if isinstance(error, ArchivesError):
            digest_path(archive).unlink(missing_ok=True)  # so that the next pack makes it anew
        raise
    with disk_errors(VerifyError, f"verifying {archive.name}", archive.parent):
        write_whole(sidecar, orjson.dumps(asdict(verification)))
    return verification


def read_verification(archive: Path) -> Verification | None:
    """What `verify` wrote beside this archive; None where there is nothing that can be read.

    Compare `archive_sha256` to know whether it is of the file that is there now.
    """
    try:
        found = Verification(**orjson.loads(verification_path(archive).read_bytes()))
        return found if found.texts and len(found.vectors) == len(found.texts) else None
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None


def _verify(archive: Path, python: str, progress: Progress, timeout_s: float) -> Verification:
    card, before = read_archive(archive).card, archive.stat()
    with _temporary() as folder, disk_errors(VerifyError, f"verifying {archive.name}", folder):
        unpacked = folder / "archive"
        unpack(archive, unpacked, progress)
        sha256, after = hash_file(archive).sha256, archive.stat()
        if (before.st_ino, before.st_mtime_ns, before.st_size) != (after.st_ino, after.st_mtime_ns, after.st_size):
            raise VerifyError(f"{archive}: it was replaced while it was verified: run `embedkit verify` again")
        progress.say(f"{archive.name}: every file is as its manifest says; loading it in a process of its own")
        found = _probe(archive, unpacked, python, timeout_s)
    bar = COSINE[card.dtype]
    if not found["min_cosine"] >= bar:  # not "<": a NaN fails
        raise VerifyError(
            f"{archive}: its vectors are not the model's: cosine {found['min_cosine']:.6f} with plain "
            f"sentence-transformers, {card.dtype} has to reach {bar}. Do not serve it: check `handler` and `dtype`"
        )
    if found["fingerprint"] != card.fingerprint:
        raise VerifyError(f"{archive}: it answers as {found['fingerprint']!r} and its card says {card.fingerprint!r}")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Verification(archive_sha256=sha256, verified_at=now, **found)


def unpack(archive: Path, target: Path, progress: Progress = SILENT) -> None:
    """Unpack into `target`, comparing each file with the manifest on the way.

    Raises:
        ArchiveError: the file is not a whole archive of this kit.
        VerifyError: a file is missing, additional, or not what the manifest says.
    """
    manifest = read_archive(archive).manifest
    files = manifest["files"]
    total, done = sum(entry["bytes"] for entry in files.values()), 0
    with opened(archive) as file:
        names = set(file.namelist()) - {MANIFEST_NAME}
        if odd := sorted(names.symmetric_difference(files)):
            what = "is not in its manifest" if odd[0] in names else "is missing"
            raise VerifyError(f"{archive}: {odd[0]} {what}: pack the model again")
        for name in [*files, MANIFEST_NAME]:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with file.open(name) as source, path.open("wb") as out:
                sha256 = _copy(source, out)
            if name != MANIFEST_NAME and sha256 != files[name]["sha256"]:
                raise VerifyError(f"{archive}: {name} is not what its manifest says: pack the model again")
            done += path.stat().st_size
            progress.advance("verify", min(done, total), total)


def _copy(source: Any, out: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := source.read(CHUNK):
        digest.update(piece)
        out.write(piece)
    return digest.hexdigest()


def _probe(archive: Path, unpacked: Path, python: str, timeout_s: float) -> dict[str, Any]:
    result, home = unpacked.parent / "result.json", unpacked.parent / "home"
    home.mkdir()
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {"HOME": str(home), "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    script = Path(__file__).with_name("probe.py")
    command = [python, "-I", "-B", str(script), str(unpacked), str(result)]
    try:
        ran = subprocess.run(
            command,
            cwd=unpacked,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise VerifyError(f"{archive}: it has not loaded and answered within {timeout_s:.0f} s") from error
    try:
        found: dict[str, Any] = orjson.loads(result.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        said = "\n".join((ran.stderr.strip() or ran.stdout.strip()).splitlines()[-8:])
        how = f"signal {-ran.returncode}" if ran.returncode < 0 else f"status {ran.returncode}"
        raise VerifyError(f"{archive}: the process that loaded it ended with {how}. Its last words:\n{said}") from None
    if "error" in found:
        raise VerifyError(f"{archive}: it does not serve: {found['error']}")
    return found


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    """A folder away from the checkout, gone afterwards; those of verifications that were killed go first."""
    root = Path(tempfile.gettempdir())
    for old in root.glob(f"{_TEMPORARY}*"):
        if not Path("/proc", old.name.removeprefix(_TEMPORARY).partition("-")[0]).exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
