"""A worker of one thread takes one core, whatever the libraries would take by themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.handlers.conftest import BACKENDS
from tests.handlers.torchserve_wire import unpack
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
