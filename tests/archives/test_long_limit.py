"""A folder whose max_seq_length is beyond what its position embeddings carry."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from archives.catalogue import ModelSpec
from archives.fetch import fetch
from archives.pack import pack
from archives.progress import Progress
from archives.verify import verify
from handlers.sentence_handler import SentenceHandler
from ops.bench.child import PlainModel
from tests.archives.conftest import LAYOUT, LOCK
from tests.handlers.torchserve_wire import Worker, json_body
from tests.model_folders import make_bge_shaped, make_roberta_shaped

TEXT = "how are vectors made, and what of it? " * 80  # 600 tokens and more


class Saying(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def shaped(path: Path, kind: str) -> tuple[Path, int]:
    """A folder of this kind, and the limit it says: like the two that are known to ship so."""
    if kind != "bert":
        return make_roberta_shaped(path, kind), 514
    folder = make_bge_shaped(path)
    settings = folder / "sentence_bert_config.json"
    settings.write_text(json.dumps({"max_seq_length": 1000, "do_lower_case": False}))
    return folder, 1000


NAMED = {"backend": "torch", "dtype": "float32"}


@pytest.mark.parametrize(
    ("kind", "engine"),
    [("roberta", {}), ("roberta", NAMED), ("xlm-roberta", {}), ("xlm-roberta", NAMED), ("bert", {})],
)
def test_more_than_the_positions_carry(kind: str, engine: dict[str, str], tmp_path: Path) -> None:
    """514 of 514 positions, or 1000 of 512: it packs and verifies, tells that 512 are read, and a longer text has the
    vector that sentence-transformers gives with the limit put right.
    """
    folder, limit = shaped(tmp_path / "made", kind)
    spec = ModelSpec.model_validate({"name": "long", "source": {"folder": folder}, "device": "cpu", **engine})
    store, saying = tmp_path / "store", Saying()
    snapshot = fetch(spec, store)
    made = pack(spec, snapshot, LAYOUT, store, lock=LOCK)
    found = verify(made.path, snapshot=snapshot, progress=saying)

    with zipfile.ZipFile(made.path) as file:
        file.extractall(tmp_path / "unpacked")
    worker = Worker(SentenceHandler(), tmp_path / "unpacked")
    answer = worker.ask_one(json_body({"input": [TEXT, "short"]})).json
    served = np.array([item["embedding"] for item in answer["data"]])
    plain = SentenceTransformer(str(folder), device="cpu")
    assert len(plain.tokenizer(TEXT)["input_ids"]) > 600
    with pytest.raises((IndexError, RuntimeError)):  # RoBERTa, BERT
        plain.encode([TEXT])
    plain.max_seq_length = 512
    expected = plain.encode([TEXT, "short"], normalize_embeddings=True)

    assert np.sum(served * expected, axis=1).min() > 0.999
    assert served[0] @ served[1] < 0.99
    assert found.min_cosine > 0.999
    assert worker.handler.facts.max_tokens == 512
    assert [line for line in saying.lines if f"max_seq_length = {limit}" in line and "512" in line] != []


def test_the_benchmarks_reference(tmp_path: Path) -> None:
    """What `bench` and `tune` compare with is cut at the positions too."""
    folder, _ = shaped(tmp_path / "made", "xlm-roberta")
    about = {"folder": str(folder), "device": "cpu", "dtype": "float32", "threads": torch.get_num_threads()}
    assert PlainModel({**about, "max_tokens": 1_000_000}).vectors([TEXT]).shape == (1, 64)
