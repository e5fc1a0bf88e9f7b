"""A hostile model folder: whatever it holds, loading it runs none of its code."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from handlers.loading import LoadError, load
from handlers.outline import load_outline
from tests.model_folders import make_bge_shaped

LOADERS: dict[str, Callable[[Path], object]] = {
    "weights": lambda folder: load(folder, device="cpu", dtype="float32"),
    "outline": load_outline,
}
CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel, BertTokenizerFast

Path({ran!r}).touch()

class Config(BertConfig):
    model_type = "custom"

class Model(BertModel):
    config_class = Config

class Tokenizer(BertTokenizerFast):
    pass
"""
OWN_MODEL = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
OWN_TOKENIZER = {"AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"]}
TRUST = {"trust_remote_code": True}


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(a model folder with Python of its own, a file that appears when that has run)."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, ran = make_bge_shaped(tmp_path / "model"), tmp_path / "ran"
    (folder / "own.py").write_text(CODE.format(ran=str(ran)))
    return folder, ran


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"auto_map": OWN_MODEL, "model_type": "custom"}),
        ("tokenizer_config.json", {"auto_map": OWN_TOKENIZER, "tokenizer_class": "Tokenizer"}),
    ],
)
def test_a_folders_own_code_does_not_run(
    loader: str, file: str, settings: dict[str, Any], hostile: tuple[Path, Path]
) -> None:
    """A model or tokenizer that needs the folder's own Python is refused, and nobody is asked whether it may run."""
    folder, ran = hostile
    edit(folder / file, **settings)
    with pytest.raises(LoadError, match="trust_remote_code"):
        LOADERS[loader](folder)
    assert not ran.exists()


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("key", ["model_args", "tokenizer_args"])
def test_a_folder_cannot_trust_itself(loader: str, key: str, hostile: tuple[Path, Path]) -> None:
    """trust_remote_code in sentence_bert_config.json, which sentence-transformers would obey, is refused by name."""
    folder, ran = hostile
    edit(folder / "config.json", auto_map=OWN_MODEL)
    edit(folder / "tokenizer_config.json", auto_map=OWN_TOKENIZER, tokenizer_class="Tokenizer")
    edit(folder / "sentence_bert_config.json", **{key: TRUST})
    with pytest.raises(LoadError, match=key):
        LOADERS[loader](folder)
    assert not ran.exists()


def test_it_would_run_otherwise(hostile: tuple[Path, Path]) -> None:
    """Plain sentence-transformers runs the same folder's code: what is refused above is no straw man."""
    folder, ran = hostile
    edit(folder / "tokenizer_config.json", auto_map=OWN_TOKENIZER, tokenizer_class="Tokenizer")
    edit(folder / "sentence_bert_config.json", tokenizer_args=TRUST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the pinned libraries' own
        SentenceTransformer(str(folder), device="cpu")
    assert ran.exists()


def test_a_pickled_dense_layer_runs_nothing(hostile: tuple[Path, Path]) -> None:
    """A Dense layer, which sentence-transformers 2.2.2 has as a pickle alone, is read as weights only."""
    folder, ran = hostile

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (ran,)

    dense = folder / "2_Dense"
    dense.mkdir()
    shape = {"in_features": 64, "out_features": 64, "bias": True}
    (dense / "config.json").write_text(json.dumps(shape | {"activation_function": "torch.nn.modules.activation.Tanh"}))
    torch.save({"x": Code()}, dense / "pytorch_model.bin")
    modules = json.loads((folder / "modules.json").read_text())
    kind = {"idx": 9, "name": "9", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, kind]))
    with pytest.raises(LoadError, match=r"[Ww]eights"):
        load(folder, device="cpu", dtype="float32")
    assert not ran.exists()
