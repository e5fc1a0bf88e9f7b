from pathlib import Path

import pytest

from handlers.sentence_handler import SentenceHandler
from tests.handlers.torchserve_wire import Worker, unpack
from tests.model_folders import make_bge_shaped, make_tao_shaped, minilm_folder


@pytest.fixture(scope="session")
def bge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bge_shaped(tmp_path_factory.mktemp("bge") / "model")


@pytest.fixture(scope="session")
def tao_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tao_shaped(tmp_path_factory.mktemp("tao") / "model")


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """The real minilm behind TorchServe's worker code, on the CPU, with small limits."""
    folder = unpack(
        tmp_path_factory.mktemp("minilm"),
        minilm_folder(),
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
    monkeypatch.delenv("TS_DECODE_INPUT_REQUEST", raising=False)
