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

from archives.archive import Archive, opened, read_archive
from archives.candidates import BARS
from archives.errors import ArchivesError, DamagedError, VerifyError
from archives.plan import MANIFEST_NAME, MODEL_FOLDER
from archives.progress import SILENT, Progress
from archives.snapshot import Snapshot, check, forget, hash_file
from archives.store import digest_path, disk_errors, verification_path, write_whole

CHUNK = 4 << 20
_TEMPORARY = "embedkit-verify-"
# What a worker needs of the environment: nothing that could put other code into it.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Verification:
    """What was seen of an archive. `vectors` are plain sentence-transformers' in float32, L2-normalised, a list a text.

    It is of the file whose digest is `archive_sha256`; `verified_at` is ISO 8601 in UTC. `reference` says what those
    vectors were computed with: the weights in the archive ("archive"), those it was made of ("snapshot"), or, where
    neither is here, not now but when it was packed ("stored").
    """

    archive_sha256: str
    verified_at: str
    fingerprint: str
    dimensions: int
    texts: list[str]
    vectors: list[list[float]]
    min_cosine: float
    reference: str = "archive"


def verify(
    archive: Path,
    *,
    snapshot: Snapshot | None = None,
    python: str = sys.executable,
    progress: Progress = SILENT,
    timeout_s: float = 1800,
) -> Verification:
    """Check the archive's content, load it as TorchServe would, compare its vectors; write the sidecar beside it.

    Args:
        snapshot: the files the archive was made of. They are looked at only where the archive leaves the weights out;
            without them, it is compared with the reference vectors that it carries.

    Raises:
        ArchiveError: the file is not a whole archive of this kit.
        VerifyError: a file differs from the manifest, the archive does not load (with the real error), or its vectors
            are not those of plain sentence-transformers. A sidecar of an earlier verification is removed then.
    """
    sidecar = verification_path(archive)
    try:
        verification = _verify(archive, snapshot, python, progress, timeout_s)
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


def _verify(
    archive: Path, snapshot: Snapshot | None, python: str, progress: Progress, timeout_s: float
) -> Verification:
    read, before = read_archive(archive), archive.stat()
    card = read.card
    with _temporary() as folder, disk_errors(VerifyError, f"verifying {archive.name}", folder):
        unpacked = folder / "archive"
        unpack(archive, unpacked, progress)
        sha256, after = hash_file(archive).sha256, archive.stat()
        if (before.st_ino, before.st_mtime_ns, before.st_size) != (after.st_ino, after.st_mtime_ns, after.st_size):
            raise VerifyError(f"{archive}: it was replaced while it was verified: run `embedkit verify` again")
        progress.say(f"{archive.name}: every file is as its manifest says; loading it in a process of its own")
        reference, model = _model(read, unpacked, snapshot, progress)
        found = _probe(archive, unpacked, model, python, timeout_s)
        for note in found.pop("notes"):
            progress.say(f"{archive.name}: {note}")
    bar = BARS[card.dtype]
    if not found["min_cosine"] >= bar:  # not "<": a NaN fails
        raise VerifyError(
            f"{archive}: its vectors are not the model's: cosine {found['min_cosine']:.6f} with plain "
            f"sentence-transformers, {card.dtype} has to reach {bar}. Do not serve it: check `handler` and `dtype`"
        )
    if found["fingerprint"] != card.fingerprint:
        raise VerifyError(f"{archive}: it answers as {found['fingerprint']!r} and its card says {card.fingerprint!r}")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Verification(archive_sha256=sha256, verified_at=now, reference=reference, **found)


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


def _model(archive: Archive, unpacked: Path, snapshot: Snapshot | None, progress: Progress) -> tuple[str, Path | None]:
    """What plain sentence-transformers is to load, and what to call it; None where its old vectors have to do."""
    left_out = archive.manifest["left_out"]
    if not left_out:
        return "archive", unpacked / MODEL_FOLDER
    if snapshot is None:
        progress.say(
            f"{archive.path.name}: the model's own weights are neither in it nor in the store: comparing with the "
            "vectors that plain sentence-transformers gave when it was packed"
        )
        return "stored", None
    known = {**archive.manifest["files"], **left_out}
    try:
        check(snapshot, snapshot.files, progress)
        others = (name for name, entry in snapshot.served.items()
                  if entry.sha256 != known.get(f"{MODEL_FOLDER}/{name}", {}).get("sha256"))  # fmt: skip
        odd = next((snapshot.root / name for name in others), None)
    except DamagedError as error:
        forget(snapshot, archive.path.parent)
        odd = error.path
    if odd is not None:
        raise VerifyError(f"{archive.path}: {odd} is not the file it was made of: fetch and pack the model again")
    copy = unpacked.parent / "snapshot"
    snapshot.lay_out(copy)
    return "snapshot", copy


def _probe(archive: Path, unpacked: Path, model: Path | None, python: str, timeout_s: float) -> dict[str, Any]:
    result, home = unpacked.parent / "result.json", unpacked.parent / "home"
    home.mkdir()
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= dict.fromkeys(("HOME", "HF_HOME", "TMPDIR"), str(home))
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    script = Path(__file__).with_name("probe.py")
    command = [python, "-I", "-B", str(script), str(unpacked), str(result), *([str(model)] if model else [])]
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
