"""Other servers for comparison: each in a virtual environment of its own, on the same model folder and texts.

Each is tried in several settings, since its best one counts. Nothing of them leaves the machine: offline, without
their usage statistics, listening on loopback.
"""

import contextlib
import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from archives.progress import Progress
from env.requirements import packages_of
from ops import loopback
from ops.bench.client import ENCODING_FORMAT, Target
from ops.bench.truth import cosine, vector_of
from ops.errors import OpsError
from ops.probe import Reference

FOLDER = Path(__file__).parent / "peers"
START_S = 180.0
_STOP_S = 10.0
# Less means another model; reduced precision is theirs to choose.
_SAME_MODEL = 0.99
_STAMP = "embedkit-peer"
_PACKAGES = {"infinity": "infinity-emb"}  # where it is not the peer's own name
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Setting:
    """How a peer is started: precision, texts a batch at most, processes with a thread each (or one with all), and the
    device, where the peer can be told one.
    """

    dtype: str
    batch: int
    workers: int
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.dtype}, batches of {self.batch}, {self.workers} process{'es' if self.workers > 1 else ''}"


@dataclass(frozen=True)
class Peer:
    """`command` takes (folder of its environment's programs, model folder, port, setting)."""

    name: str
    path: str
    model: str | None
    command: Callable[[Path, Path, int, Setting], list[str]]
    process_a_core: bool


def _infinity(programs: Path, model: Path, port: int, setting: Setting) -> list[str]:
    flags = {
        "--model-id": str(model),
        "--served-model-name": "peer",
        "--engine": "torch",
        "--device": setting.device,
        "--dtype": setting.dtype,
        "--batch-size": str(setting.batch),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--log-level": "warning",
    }
    words = [word for flag in flags.items() for word in flag]
    return [str(programs / "infinity_emb"), "v2", *words, "--no-bettertransformer", "--no-model-warmup"]


def _mosec(programs: Path, model: Path, port: int, setting: Setting) -> list[str]:
    script = str(FOLDER / "mosec_server.py")
    return [str(programs / "python"), script, "--address", "127.0.0.1", "--port", str(port), "--timeout", "300000"]


def _litserve(programs: Path, model: Path, port: int, setting: Setting) -> list[str]:
    return [str(programs / "python"), str(FOLDER / "litserve_server.py"), str(port)]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("infinity", "/embeddings", "peer", _infinity, process_a_core=False),
        Peer("mosec", "/inference", None, _mosec, process_a_core=True),
        Peer("litserve", "/predict", None, _litserve, process_a_core=True),
    )
}


def settings_of(peer: Peer, cores: int, *, quick: bool) -> list[Setting]:
    """The settings that are tried: both precisions; small batches too, which pad less where lengths vary."""
    workers = cores if peer.process_a_core else 1
    return [
        Setting(dtype, batch, workers) for batch in ((32,) if quick else (32, 8)) for dtype in ("float32", "bfloat16")
    ]


def versions(names: Sequence[str]) -> dict[str, str]:
    """Name → the version that its lock pins, of these peers."""
    locks = {name: (FOLDER / f"{name}.txt").read_text(encoding="utf-8") for name in names}
    return {name: packages_of(lock)[_PACKAGES.get(name, name)] for name, lock in locks.items()}


def install(peer: Peer, root: Path, progress: Progress) -> Path:
    """The folder of programs of the peer's environment below `root`; made where it is not there yet.

    Raises:
        OpsError: pip failed; its last words are in the message.
    """
    lock, folder = FOLDER / f"{peer.name}.txt", root / peer.name
    root.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    with (root / f"{peer.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        stamp = folder / _STAMP
        if stamp.exists() and stamp.read_text() == digest:
            return folder / "bin"
        progress.say(f"{peer.name}: installing its environment in {folder}")
        venv.create(folder, clear=True, with_pip=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        done = subprocess.run([*command, "-r", str(lock)], capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-6:])
            raise OpsError(f"{peer.name}: pip could not install {lock.name}:\n{last}")
        stamp.write_text(digest)
    return folder / "bin"


@contextlib.contextmanager
def running(
    peer: Peer, setting: Setting, *, programs: Path, model: Path, reference: Reference, log: Path
) -> Iterator[Target]:
    """The peer, serving: it has answered the reference text with the reference vector.

    Raises:
        OpsError: it ended, does not answer in time, or answers with something else.
    """
    port = _free_port()
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _environment(model, setting)
    with log.open("wb") as out:
        process = subprocess.Popen(
            peer.command(programs, model, port, setting),
            cwd=log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        target = Target("127.0.0.1", port, peer.path, peer.model, ENCODING_FORMAT)
        _wait(peer, process, target, reference, log)
        yield target
    finally:
        _end(process)


def _environment(model: Path, setting: Setting) -> dict[str, str]:
    threads = str(max(1, len(os.sched_getaffinity(0)) // setting.workers))
    return {
        "PEER_MODEL": str(model),
        "PEER_DTYPE": setting.dtype,
        "PEER_BATCH": str(setting.batch),
        "PEER_WORKERS": str(setting.workers),
        "OMP_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false" if setting.workers > 1 else "true",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    }


def _wait(peer: Peer, process: "subprocess.Popen[bytes]", target: Target, reference: Reference, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise OpsError(f"{peer.name} ended with status {process.returncode} at its start:\n{_last_words(log)}")
        with contextlib.suppress(requests.RequestException):
            url, body = f"http://127.0.0.1:{target.port}{target.path}", target.body(reference.text)
            answer = loopback.request("POST", url, json=body, timeout=30)
            if answer.status_code == 200:
                alike = cosine(vector_of(answer.content), reference.vector)
                if alike < _SAME_MODEL:
                    raise OpsError(f"{peer.name} gives other vectors than the model: cosine {alike:.4f}; see {log}")
                return
        time.sleep(0.5)
    raise OpsError(f"{peer.name} has not answered within {START_S:.0f} s:\n{_last_words(log)}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Its whole process group: its workers are not to share the cores with the next one."""
    for what in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, what)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])


def listen() -> socket.socket:
    """A port of loopback that nobody else has; free again once it is closed."""
    return socket.create_server(("127.0.0.1", 0))


def _free_port() -> int:
    with listen() as listener:
        return int(listener.getsockname()[1])


def chosen(names: Sequence[str]) -> list[Peer]:
    """The peers of these names.

    Raises:
        OpsError: there is no such peer, or this Python is not the one their requirements are for.
    """
    for name in names:
        if name not in PEERS:
            raise OpsError(f"no server {name!r} to compare with; known: {', '.join(PEERS)}")
    if names and sys.version_info[:2] != (3, 11):
        raise OpsError("the servers to compare with are pinned for Python 3.11: run `make up` first")
    return [PEERS[name] for name in names]
