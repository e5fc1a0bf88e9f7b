from importlib.util import find_spec
from pathlib import Path

import pytest

from handlers.sentence_handler import SentenceHandler
from tests.handlers.torchserve_wire import Worker, unpack
from tests.model_folders import convert, make_bge_shaped, make_tao_shaped, minilm_folder

# It comes with the CPU lock alone. Not imported to find out: that is the backend's to do, without its telemetry.
HAS_OPENVINO = find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO comes with the CPU lock alone")
BACKENDS = ["torch", pytest.param("openvino", marks=needs_openvino)]


@pytest.fixture(scope="session")
def bge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bge_shaped(tmp_path_factory.mktemp("bge") / "model")


@pytest.fixture(scope="session")
def bge_wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of bge-large-zh's 24 layers."""
    return make_bge_shaped(tmp_path_factory.mktemp("bge-wide") / "model", hidden=1024, heads=16)


@pytest.fixture(scope="session")
def tao_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tao_shaped(tmp_path_factory.mktemp("tao") / "model")


@pytest.fixture(scope="session")
def minilm_converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(minilm_folder(), tmp_path_factory.mktemp("minilm-openvino"))


@pytest.fixture(scope="session")
def bge_converted(bge_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(bge_folder, tmp_path_factory.mktemp("bge-openvino"))


@pytest.fixture(scope="session")
def bge_wide_converted(bge_wide_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(bge_wide_folder, tmp_path_factory.mktemp("bge-wide-openvino"))


@pytest.fixture(scope="session")
def tao_converted(tao_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(tao_folder, tmp_path_factory.mktemp("tao-openvino"))


@pytest.fixture(scope="session", params=BACKENDS)
def minilm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """The real minilm behind TorchServe's worker code, on the CPU, with small limits, by each backend."""
    folder = unpack(
        tmp_path_factory.mktemp("minilm"),
        minilm_folder(),
        converted=request.getfixturevalue("minilm_converted") if request.param == "openvino" else None,
        device="cpu",
        max_texts=8,
        max_chars=20_000,
        max_body_bytes=200_000,
        prompts={"query": "query: "},
    )
    return Worker(SentenceHandler(), folder)


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDKIT_TELEMETRY_DIR", raising=False)
    monkeypatch.delenv("EMBEDKIT_SPEED_DIR", raising=False)
    monkeypatch.delenv("TS_DECODE_INPUT_REQUEST", raising=False)
