"""A hostile model folder: whatever it holds, loading it runs none of its code."""

import contextlib
import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from archives.catalogue import ModelSpec
from archives.errors import FetchError
from archives.fetch import fetch
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
TORCH = "torch.nn.modules."


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(a model folder with Python of its own, a file that appears when that has run)."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, ran = make_bge_shaped(tmp_path / "model"), tmp_path / "ran"
    (folder / "own.py").write_text(CODE.format(ran=str(ran)))
    return folder, ran


PREFIX = "sentence_transformers.models."
# A module of an installed package that has joblib, whose load() unpickles: reached by a dotted name in a JSON file.
UNPICKLES = "sklearn.datasets._olivetti_faces.joblib"


class Touch:
    """Pickled, it makes a file where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def add_module(folder: Path, kind: str, config: dict[str, Any], *, file: str = "config.json") -> Path:
    """Put a module behind the others; returns its folder."""
    modules = json.loads((folder / "modules.json").read_text())
    place = folder / f"9_{kind}"
    place.mkdir()
    (place / file).write_text(json.dumps(config))
    modules.append({"idx": 9, "name": "9", "path": place.name, "type": f"{PREFIX}{kind}"})
    (folder / "modules.json").write_text(json.dumps(modules))
    return place


def spec_of(folder: Path) -> ModelSpec:
    return ModelSpec.model_validate({"name": "hostile", "source": {"folder": folder}, "device": "cpu"})


def refuse(folder: Path, store: Path, match: str) -> None:
    """Fetch refuses it, and so does each way to load it."""
    with pytest.raises(FetchError, match=match):
        fetch(spec_of(folder), store)
    for loader in LOADERS.values():
        with pytest.raises(LoadError, match=match):
            loader(folder)


def test_asym_does_not_unpickle(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    """Asym, whose config.json names what it imports, is refused by name: the pickle beside it is never read."""
    folder, ran = hostile
    config = {"types": {"payload.model": UNPICKLES}, "structure": {"query": ["payload.model"]}, "parameters": {}}
    place = add_module(folder, "Asym", config)
    (place / "payload.model").write_bytes(pickle.dumps(Touch(ran)))
    refuse(folder, tmp_path / "store", rf"modules\.json.*'{PREFIX}Asym'")
    assert not ran.exists()


def test_asym_would_unpickle_otherwise(hostile: tuple[Path, Path]) -> None:
    """Plain sentence-transformers reads that pickle: what is refused above is no straw man."""
    folder, ran = hostile
    config = {"types": {"payload.model": UNPICKLES}, "structure": {"query": ["payload.model"]}, "parameters": {}}
    place = add_module(folder, "Asym", config)
    (place / "payload.model").write_bytes(pickle.dumps(Touch(ran)))
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")  # the pinned libraries' own
        SentenceTransformer(str(folder), device="cpu")
    assert ran.exists()


def test_word_embeddings_import_nothing(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    """WordEmbeddings, whose configuration names a tokenizer class to import, is refused by name."""
    folder, _ = hostile
    add_module(folder, "WordEmbeddings", {"tokenizer_class": UNPICKLES}, file="wordembedding_config.json")
    refuse(folder, tmp_path / "store", rf"modules\.json.*'{PREFIX}WordEmbeddings'")


@pytest.mark.parametrize("kind", ["BoW", "CLIPModel", "CNN", "LSTM", "WeightedLayerPooling", "WordWeights", "Dense.x"])
def test_no_other_module_is_loaded(kind: str, hostile: tuple[Path, Path], tmp_path: Path) -> None:
    """The list of module classes is exact: whatever else lies below that package is refused by name."""
    folder, _ = hostile
    add_module(folder, kind, {})
    refuse(folder, tmp_path / "store", rf"modules\.json.*'{PREFIX}{kind}'")


@pytest.mark.parametrize(
    ("file", "settings", "told"),
    [
        ("config.json", {"auto_map": OWN_MODEL, "model_type": "custom"}, "'custom'.*auto_map"),
        ("config.json", {"model_type": "vision-encoder-decoder"}, "model_type 'vision-encoder-decoder'"),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}, "configuration_files"),
        ("config.json", {"tokenizer_class": "RagRetriever"}, "tokenizer_class 'RagRetriever'"),
        ("tokenizer_config.json", {"tokenizer_class": "RagRetriever"}, "tokenizer_class 'RagRetriever'"),
        ("tokenizer_config.json", {"tokenizer_class": "TokenizersBackend"}, "tokenizer_class 'TokenizersBackend'"),
        (
            "tokenizer_config.json",
            {"auto_map": OWN_TOKENIZER, "tokenizer_class": "Tokenizer"},
            "tokenizer_class 'Tokenizer'.*auto_map",
        ),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}, "fast_tokenizer_files"),
        ("1_Pooling/config.json", {"pooling_mode_lasttoken": False}, "'pooling_mode_lasttoken'"),
        ("1_Pooling/config.json", {"pooling_mode": "eval"}, "pooling_mode is 'eval'"),
        ("sentence_bert_config.json", {"model_args": TRUST}, "'model_args'"),
        ("sentence_bert_config.json", {"max_seq_length": "x"}, "max_seq_length is 'x'"),
        ("sentence_bert_config.json", {"max_seq_length": 10**30}, "max_seq_length is 10{30}"),
    ],
)
def test_what_a_model_needs_and_may_not_have_is_refused(
    file: str, settings: dict[str, Any], told: str, hostile: tuple[Path, Path], tmp_path: Path
) -> None:
    """Code of the folder's own, classes outside the lists, other weights or other files: refused by file and key."""
    folder, ran = hostile
    edit(folder / file, **settings)
    refuse(folder, tmp_path / "store", rf"{file}.*{told}")
    assert not ran.exists()


LEFT_OUT: list[tuple[str, dict[str, Any]]] = [
    ("config.json", {"auto_map": OWN_MODEL}),
    ("config.json", {"custom_pipelines": {"x": {"impl": "own.Model"}}}),
    ("tokenizer_config.json", {"auto_map": OWN_TOKENIZER}),
    ("tokenizer_config.json", {"chat_template": "{{ ''.__class__ }}"}),
    ("tokenizer_config.json", {"tokenizer_file": "/etc/passwd"}),
    ("tokenizer_config.json", {"init_inputs": ["/etc/passwd"]}),
    ("special_tokens_map.json", {"vocab_file": "/etc/passwd"}),
]


@pytest.mark.parametrize(("file", "settings"), LEFT_OUT)
def test_what_a_model_does_not_need_is_left_out(
    file: str, settings: dict[str, Any], hostile: tuple[Path, Path], tmp_path: Path
) -> None:
    """Such a key is in no served folder, which is otherwise as it was; loaded as it is, the folder is refused."""
    folder, ran = hostile
    if not (folder / file).exists():
        (folder / file).write_text("{}")
    before = json.loads((folder / file).read_text())
    edit(folder / file, **settings)
    snapshot = fetch(spec_of(folder), tmp_path / "store")
    (key,) = settings
    snapshot.lay_out(tmp_path / "served")
    assert before == json.loads((tmp_path / "served" / file).read_text())
    for loader in LOADERS.values():
        loader(tmp_path / "served")
        with pytest.raises(LoadError, match=f"{file}.*{key}"):
            loader(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "generation_config.json", "preprocessor_config.json", "own.py", "x.json"]
)
def test_files_that_nobody_reads_are_left_out(name: str, hostile: tuple[Path, Path], tmp_path: Path) -> None:
    """Served are exactly the files that a load reads."""
    folder, _ = hostile
    (folder / name).write_text("{}")
    assert name not in fetch(spec_of(folder), tmp_path / "store").files


def test_what_is_kept_may_be_no_unicode(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    """Half of a surrogate pair, which JSON can say and UTF-8 cannot, stands as it is in what is served."""
    folder, _ = hostile
    edit(folder / "config.json", auto_map=OWN_MODEL, odd="\ud800")
    fetch(spec_of(folder), tmp_path / "store").lay_out(tmp_path / "served")
    assert json.loads((tmp_path / "served/config.json").read_text())["odd"] == "\ud800"


def test_a_licence_of_an_odd_name_is_left_out(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    """A licence goes with the weights; not under a name that is no Unicode, or of several lines."""
    folder, _ = hostile
    for name in (b"LICENSE\xff", b"LICENSE\nx", b"LICENSE-2.0 (MIT).txt"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).touch()
    files = fetch(spec_of(folder), tmp_path / "store").files
    assert [name for name in files if name.startswith("LICENSE")] == ["LICENSE-2.0 (MIT).txt"]


def test_an_adapter_is_refused(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    """adapter_config.json names another model as the base: without it the weights mean something else."""
    folder, _ = hostile
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    with pytest.raises(FetchError, match=r"adapter_config\.json"):
        fetch(spec_of(folder), tmp_path / "store")


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


MODULES_WITH_WEIGHTS: dict[str, dict[str, Any]] = {
    "Dense": {"in_features": 64, "out_features": 64, "bias": True, "activation_function": f"{TORCH}activation.Tanh"},
    "LayerNorm": {"dimension": 64},
}


@pytest.mark.parametrize("kind", MODULES_WITH_WEIGHTS)
def test_a_pickled_module_runs_nothing(kind: str, hostile: tuple[Path, Path]) -> None:
    """Modules whose weights sentence-transformers 2.2.2 has as a pickle alone are read as weights only."""
    folder, ran = hostile
    place = add_module(folder, kind, MODULES_WITH_WEIGHTS[kind])
    torch.save({"x": Touch(ran)}, place / "pytorch_model.bin")
    with pytest.raises(LoadError, match=r"[Ww]eights"):
        load(folder, device="cpu", dtype="float32")
    assert not ran.exists()


@pytest.mark.parametrize("kind", MODULES_WITH_WEIGHTS)
def test_a_module_without_a_weight_is_refused(kind: str, hostile: tuple[Path, Path]) -> None:
    """A layer behind the transformer that lacks a weight, or has one more, is refused by its name."""
    folder, _ = hostile
    place = add_module(folder, kind, MODULES_WITH_WEIGHTS[kind])
    torch.save({"more.weight": torch.zeros(1)}, place / "pytorch_model.bin")
    with pytest.raises(LoadError, match=r"(?s)Missing key.*weight.*more\.weight"):
        load(folder, device="cpu", dtype="float32")
