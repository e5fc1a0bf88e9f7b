"""Tokens without embeddings: a tokenizer that got tokens more than its model has rows."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from handlers.loading import LoadError
from handlers.sentence_handler import SentenceHandler
from tests.handlers.conftest import BACKENDS
from tests.handlers.torchserve_wire import Worker, json_body, unpack
from tests.model_folders import convert, minilm_folder

ROWS = 30522  # minilm's; so the first added token has this id


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """minilm, whose tokenizer got two tokens and whose embeddings were not resized."""
    folder = Path(shutil.copytree(minilm_folder(), tmp_path_factory.mktemp("extended") / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["ACME-42"])
    tokenizer.add_tokens(["<ticket>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=BACKENDS)
def worker(request: pytest.FixtureRequest, extended: Path, tmp_path_factory: pytest.TempPathFactory) -> Worker:
    converted = None
    if request.param == "openvino":
        converted = convert(extended, tmp_path_factory.mktemp("extended-openvino"))
    archive = tmp_path_factory.mktemp("archive") / request.param
    return Worker(SentenceHandler(), unpack(archive, extended, converted=converted, device="cpu"))


@pytest.mark.parametrize(
    ("text", "token", "number"), [("ACME-42", "ACME-42", ROWS), ("re: <ticket> 7", "<ticket>", ROWS + 1)]
)
def test_a_text_with_such_a_token_is_refused(text: str, token: str, number: int, worker: Worker) -> None:
    """It is a 400 that names text, token and id; the other requests of the batch are answered."""
    good, bad = worker.ask(json_body({"input": "a good text"}), json_body({"input": ["fine", text]}))

    assert good.status == 200
    assert (bad.status, bad.error["code"], bad.error["param"]) == (400, "token_without_embedding", "input")
    assert f"'input[1]' has the token {token!r} (id {number})" in bad.error["message"]


def test_such_an_id_is_refused_too(worker: Worker) -> None:
    """An id that the client made itself is held against the rows of the model, not against the vocabulary."""
    assert worker.ask_one(json_body({"input": [101, ROWS - 1, 102]})).status == 200
    answer = worker.ask_one(json_body({"input": [101, ROWS, 102]}))
    assert (answer.status, answer.error["code"]) == (400, "token_out_of_range")


def test_the_load_tells_of_them(extended: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The worker's log names the first such token, its id and the model's rows; the model is served."""
    Worker(SentenceHandler(), unpack(tmp_path, extended, device="cpu"))
    assert f"'ACME-42' (id {ROWS}) and 1 more" in caplog.text
    assert f"{ROWS} rows" in caplog.text


def test_a_whole_tokenizer_is_told_nothing_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """minilm as it is has a row for each token: nothing is said."""
    Worker(SentenceHandler(), unpack(tmp_path, minilm_folder(), device="cpu"))
    assert "rows" not in caplog.text


def test_padding_without_an_embedding_is_none(extended: Path, tmp_path: Path) -> None:
    """A padding token that was added and has no row: texts of different lengths are computed together all the same."""
    folder = Path(shutil.copytree(extended, tmp_path / "model"))
    edited = json.loads((folder / "tokenizer_config.json").read_text()) | {"pad_token": "<ticket>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(edited))
    (folder / "special_tokens_map.json").unlink()
    worker = Worker(SentenceHandler(), unpack(tmp_path / "archive", folder, device="cpu"))
    assert worker.handler.engine._embedder._model.tokenizer.pad_token_id == ROWS + 1  # type: ignore[attr-defined]
    texts = ["short", "long enough to need a row of its own, " * 5]
    together = worker.ask_one(json_body({"input": texts}))
    assert together.status == 200
    alone = [worker.ask_one(json_body({"input": text})).vectors[0] for text in texts]
    assert together.vectors[0] == pytest.approx(alone[0], abs=1e-5)


def test_a_token_around_every_text_ends_the_load(extended: Path, tmp_path: Path) -> None:
    """Where each text gets such a token, no text can be computed: the model is refused."""
    folder = Path(shutil.copytree(extended, tmp_path / "model"))
    made = json.loads((folder / "tokenizer.json").read_text())
    made["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [ROWS + 1]
    made["post_processor"]["cls"] = ["<ticket>", ROWS + 1]
    (folder / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(LoadError, match=rf"<ticket>.*{ROWS + 1}.*every text"):
        Worker(SentenceHandler(), unpack(tmp_path / "archive", folder, device="cpu"))
