"""A worker of one thread takes one core, whatever the libraries would take by themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from handlers.sentence_handler import SentenceHandler
from tests.handlers.conftest import BACKENDS
from tests.handlers.torchserve_wire import Worker, unpack
from tests.model_folders import minilm_folder

SERVE = """
import resource, sys, time
from pathlib import Path
from handlers.sentence_handler import SentenceHandler
from tests.handlers.torchserve_wire import Worker, json_body
worker = Worker(SentenceHandler(), Path(sys.argv[1]))
requests = [json_body({"input": [f"word {number} " * (1 + number % 40)] * 4}) for number in range(24)]
worker.ask(*requests)
def processor():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
wall, busy = time.perf_counter(), processor()
worker.ask(*requests)
print(processor() - busy, time.perf_counter() - wall)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be oversubscribed")
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_thread_takes_one_core(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """However many threads the environment and the libraries' defaults ask for."""
    converted = request.getfixturevalue("minilm_converted") if backend == "openvino" else None
    unpacked = unpack(tmp_path / "unpacked", minilm_folder(), converted=converted, device="cpu", threads=1)
    asked = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "4")

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SERVE, str(unpacked)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **asked, "TOKENIZERS_PARALLELISM": "true"},
    )

    busy, wall = map(float, done.stdout.split())
    assert busy <= 1.1 * wall


def test_attention_is_not_planned_anew_for_each_shape(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """cuDNN's, which torch would take first on a new GPU, is off in a worker."""
    for name in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    torch.backends.cuda.enable_cudnn_sdp(True)
    Worker(SentenceHandler(), unpack(tmp_path / "unpacked", minilm_folder(), device="cpu"))
    assert not torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
