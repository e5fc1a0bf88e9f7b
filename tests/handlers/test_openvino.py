"""The OpenVINO backend: what it needs, what it refuses, and that it keeps to itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from handlers import openvino_backend
from handlers.card import CardError
from handlers.loading import LoadError
from handlers.parity import REFERENCE_NAME, Reference
from handlers.sentence_handler import SentenceHandler
from tests.handlers.conftest import needs_openvino
from tests.handlers.torchserve_wire import Worker, json_body, unpack

pytestmark = needs_openvino

# Loads a worker and converts nothing: any attempt to reach another machine, or to look up its address, is written down.
SERVE = """
import socket, sys
from pathlib import Path
tried = []
for name in ("connect", "connect_ex"):
    real = getattr(socket.socket, name)
    def watched(self, address, real=real):
        tried.append(address)
        return real(self, address)
    setattr(socket.socket, name, watched)
socket.getaddrinfo = lambda *a, **k: tried.append(a) or []
from handlers.openvino_backend import import_openvino
openvino = import_openvino()
import openvino.tools.ovc
from handlers.sentence_handler import SentenceHandler
from tests.handlers.torchserve_wire import Worker, json_body
worker = Worker(SentenceHandler(), Path(sys.argv[1]))
print(worker.ask_one(json_body({"input": "a"})).status, tried, sys.modules["openvino_telemetry"])
"""


def test_telemetry_is_off(bge_folder: Path, bge_converted: Path, tmp_path: Path) -> None:
    """Neither a file in the home folder nor a connection comes of importing, loading and computing."""
    unpacked = unpack(tmp_path / "unpacked", bge_folder, converted=bge_converted)
    home = tmp_path / "home"
    home.mkdir()
    # It keeps quiet by itself where it takes the machine for one that tests.
    ci = ("CI", "TF_BUILD", "JENKINS_URL")
    environment = {key: value for key, value in os.environ.items() if key not in ci} | {"HOME": str(home)}

    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(unpacked)], capture_output=True, text=True, check=True, env=environment
    )

    assert done.stdout == "200 [] None\n"
    assert not (home / "intel").exists()


def test_it_needs_no_weights_of_torch(bge_folder: Path, bge_converted: Path, tmp_path: Path) -> None:
    """Settings and tokenizer are read from the model folder; the weights are the converted model's."""
    lean = tmp_path / "lean"
    shutil.copytree(bge_folder, lean, ignore=shutil.ignore_patterns("*.safetensors"))
    with_weights = Worker(SentenceHandler(), unpack(tmp_path / "a", bge_folder, converted=bge_converted))

    without = Worker(SentenceHandler(), unpack(tmp_path / "b", lean, converted=bge_converted))

    body = json_body({"input": ["学而时习之", "a"]})
    assert with_weights.ask_one(body).vectors == without.ask_one(body).vectors
    assert (without.handler.facts.dimensions, without.handler.facts.max_tokens) == (64, 512)
    assert without.handler.facts.backend == "openvino"


@pytest.mark.parametrize("missing", ["model.xml", "model.bin"])
def test_a_model_that_is_not_there_is_named(
    missing: str, bge_folder: Path, bge_converted: Path, tmp_path: Path
) -> None:
    """The error names the file and says to pack again."""
    broken = tmp_path / "broken"
    shutil.copytree(bge_converted, broken)
    (broken / "openvino" / missing).unlink()

    with pytest.raises(LoadError, match=r"openvino/model\.xml: .*pack"):
        Worker(SentenceHandler(), unpack(tmp_path / "unpacked", bge_folder, converted=broken))


def test_bfloat16_needs_a_processor_that_has_it(
    bge_folder: Path, bge_converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that was packed for bfloat16 is not served by a node that would compute something else."""
    monkeypatch.setattr(openvino_backend, "flags", lambda: frozenset({"avx2", "avx512f"}))

    with pytest.raises(LoadError, match=r"avx512_bf16.*dtype = 'float32'"):
        Worker(SentenceHandler(), unpack(tmp_path, bge_folder, converted=bge_converted, dtype="bfloat16"))


@pytest.mark.parametrize("wrong", [{"device": "cuda"}, {"device": "auto"}, {"dtype": "float16"}])
def test_it_computes_on_the_cpu(wrong: dict[str, str], bge_folder: Path, bge_converted: Path, tmp_path: Path) -> None:
    """A card that asks for it elsewhere, or in float16, is refused."""
    with pytest.raises(CardError, match="computes on the CPU"):
        unpack(tmp_path, bge_folder, converted=bge_converted, **wrong)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_the_reference_is_held_against_what_is_computed_here(
    backend: str, bge_folder: Path, bge_converted: Path, tmp_path: Path
) -> None:
    """An archive's own vectors, reached, let it load; missed, they stop the load with both figures."""
    converted = bge_converted if backend == "openvino" else None
    unpacked = unpack(tmp_path, bge_folder, converted=converted, device="cpu")
    texts = ["学而时习之", "不亦说乎", "不" * 2000]
    vectors = Worker(SentenceHandler(), unpacked).handler.engine.embed_texts(texts)
    (unpacked / REFERENCE_NAME).write_bytes(Reference(texts, vectors, 0.99999).to_json())
    Worker(SentenceHandler(), unpacked)

    vectors[0] = vectors[1]
    (unpacked / REFERENCE_NAME).write_bytes(Reference(texts, vectors, 0.99999).to_json())
    with pytest.raises(LoadError, match=r"not the model's on this machine: cosine -?0\.\d+ .*0\.99999 has to be"):
        Worker(SentenceHandler(), unpacked)


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"texts": [], "vectors": [], "least_cosine": 1}', b"[1]"])
def test_an_unreadable_reference_is_named(content: bytes, tmp_path: Path) -> None:
    """The error names the file; no file at all is no reference."""
    assert Reference.read(tmp_path / REFERENCE_NAME) is None
    (tmp_path / REFERENCE_NAME).write_bytes(content)

    with pytest.raises(LoadError, match=REFERENCE_NAME):
        Reference.read(tmp_path / REFERENCE_NAME)


def test_a_reference_comes_back_as_written(tmp_path: Path) -> None:
    """To the bit."""
    vectors = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    (tmp_path / REFERENCE_NAME).write_bytes(Reference(["a", "天"], vectors, 0.999).to_json())

    read = Reference.read(tmp_path / REFERENCE_NAME)

    assert read is not None
    assert (read.texts, read.least_cosine) == (["a", "天"], 0.999)
    assert np.array_equal(read.vectors, vectors)


def test_memory_settles_over_thousands_of_shapes(bge_folder: Path, bge_converted: Path, tmp_path: Path) -> None:
    """After 600 random batches the next 600 take no further memory worth naming: OpenVINO keeps what it saw."""
    worker = Worker(SentenceHandler(), unpack(tmp_path, bge_folder, converted=bge_converted))
    chance = np.random.default_rng(0)

    def compute(batches: int) -> int:
        for _ in range(batches):
            lengths = chance.integers(2, 48, size=int(chance.integers(1, 9)))
            worker.handler.engine._embedder.embed([[5] * int(length) for length in lengths])
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    compute(600)
    first = compute(300)

    assert compute(300) - first < 0.01 * first
