"""Start processes of child.py and talk to them: one line of JSON each way."""

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from handlers.card import CARD_NAME
from ops.allocator import MALLOC
from ops.errors import OpsError

# Texts tokenized at a time while a GPU computes those before them: enough for its largest passes.
AHEAD = 2048
LOAD_S = 300.0
WORK_S = 1800.0
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def engine_spec(unpacked: Path, gpu: int | None = None) -> dict[str, Any]:
    """The archive's own engine, with what its card says. A GPU computes while the cores tokenize what comes next."""
    return {"kind": "engine", "folder": str(unpacked), "gpu": gpu, "ahead": None if gpu is None else AHEAD}


def plain_spec(model: Path, *, threads: int, dtype: str, max_tokens: int, device: str) -> dict[str, Any]:
    """SentenceTransformer.encode on the same model folder."""
    return {
        "kind": "plain",
        "folder": str(model),
        "threads": threads,
        "dtype": dtype,
        "max_tokens": max_tokens,
        "device": device,
    }


@contextlib.contextmanager
def with_threads(unpacked: Path, threads: int) -> Iterator[Path]:
    """The same unpacked archive, but for the threads in its card: links to everything else."""
    with tempfile.TemporaryDirectory(dir=unpacked.parent, prefix="threads-") as name:
        folder = Path(name)
        for entry in unpacked.iterdir():
            if entry.name != CARD_NAME:
                (folder / entry.name).symlink_to(entry)
        card = orjson.loads((unpacked / CARD_NAME).read_bytes())
        (folder / CARD_NAME).write_bytes(orjson.dumps(card | {"threads": threads}))
        yield folder


class Children:
    """Processes with the same task. A context manager: leaving it ends them.

    Raises OpsError, with a process's last words, where one ends or stays silent.
    """

    def __init__(self, specs: Sequence[Mapping[str, Any]], *, threads: int) -> None:
        self._specs = specs
        self._threads = threads
        self._processes: list[_Child] = []
        self.about: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self._processes = [_Child(spec, self._threads) for spec in self._specs]
            for process in self._processes:
                self.about = process.receive(LOAD_S)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def ask(self, shares: Sequence[Sequence[str]], command: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Hand every process its share of the texts, then give all of them the command at once."""
        for process, share in zip(self._processes, shares, strict=True):
            process.send({"do": "texts", "texts": list(share)})
        for process in self._processes:
            process.receive(WORK_S)
        for process in self._processes:
            process.send(command)
        return [process.receive(WORK_S) for process in self._processes]

    def _end(self) -> None:
        for process in self._processes:
            process.end()
        self._processes = []


class _Child:
    def __init__(self, spec: Mapping[str, Any], threads: int) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in end()
        environment = MALLOC | {name: os.environ[name] for name in (*_PASSED_ON, *MALLOC) if name in os.environ}
        environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        # With one thread each, the tokenizers' own threads would fight over the cores; with all, they are wanted.
        environment |= {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false"}
        command = [sys.executable, "-I", "-B", str(Path(__file__).with_name("child.py")), orjson.dumps(spec).decode()]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )

    def send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(orjson.dumps(message) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("ended") from None

    def receive(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise self._failure(f"has said nothing for {timeout_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise self._failure("ended")
        answer: dict[str, Any] = orjson.loads(line)
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _failure(self, what: str) -> OpsError:
        if what == "ended":  # its channel closes before it has said why
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self._said.seek(0)
        last = "\n".join(self._said.read().decode(errors="replace").strip().splitlines()[-6:])
        return OpsError(f"the process that computes in process for the comparison {what}. Its last words:\n{last}")
