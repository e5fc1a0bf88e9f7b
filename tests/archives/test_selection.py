"""Which files of a model are served."""

import orjson
import pytest

from archives.errors import FetchError
from archives.selection import choose, parse_modules
from handlers.model_folder import Module

PREFIX = "sentence_transformers.models."
PLAIN = [Module("", f"{PREFIX}Transformer"), Module("1_Pooling", f"{PREFIX}Pooling")]
BASE = ["config.json", "modules.json", "tokenizer.json", "1_Pooling/config.json"]


def chosen(*more: str, modules: list[Module] | None = None, base: list[str] = BASE) -> list[str]:
    """What is chosen beyond the base."""
    return [name for name in choose([*base, *more], modules or PLAIN, "here") if name not in base]


def test_safetensors_before_pickles() -> None:
    """With both formats the safe one is taken, without it the other."""
    assert chosen("model.safetensors", "pytorch_model.bin") == ["model.safetensors"]
    assert chosen("pytorch_model.bin") == ["pytorch_model.bin"]


def test_shards() -> None:
    """A sharded format is taken with its index and all its shards, and no other index."""
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert chosen(*shards, "pytorch_model.bin", "pytorch_model.bin.index.json") == shards


def test_dense_layers_are_pickles() -> None:
    """sentence-transformers 2.2.2 reads pytorch_model.bin for every module but the transformer."""
    dense = [*PLAIN, Module("2_Dense", f"{PREFIX}Dense")]
    files = ["2_Dense/config.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "model.safetensors"]
    assert chosen(*files, modules=dense) == ["2_Dense/config.json", "2_Dense/pytorch_model.bin", "model.safetensors"]


def test_transformer_in_a_sub_folder() -> None:
    """A transformer that has its own folder is looked for there."""
    modules = [Module("0_Transformer", f"{PREFIX}Transformer"), PLAIN[1]]
    base = ["modules.json", "0_Transformer/config.json", "0_Transformer/vocab.txt"]
    weights = "0_Transformer/model.safetensors"
    assert chosen(weights, "model.safetensors", modules=modules, base=base) == [weights]


@pytest.mark.parametrize(
    "name",
    [
        "README.md", ".gitattributes", ".git/config", "data_config.json", "training_args.bin", "train_script.py",
        "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "onnx/model.onnx", "openvino/openvino_model.bin",
        "model.fp16.safetensors", "optimizer.pt", "eval/results.json", "modeling_custom.py", "coreml/model.mlmodel",
    ],
)  # fmt: skip
def test_left_out(name: str) -> None:
    """Documentation, training leftovers, code and other frameworks' weights are not served."""
    assert chosen("model.safetensors", name) == ["model.safetensors"]


@pytest.mark.parametrize("name", ["vocab.txt", "merges.txt", "sentencepiece.bpe.model", "added_tokens.json", "LICENSE"])
def test_taken(name: str) -> None:
    """What a tokenizer reads is served, and a licence goes with the weights."""
    assert name in chosen("model.safetensors", name)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["modules.json", "tokenizer.json", "model.safetensors"], "./config.json is missing"),
        (["modules.json", "config.json", "tokenizer.json"], "no weights: . has neither model.safetensors nor"),
        (["modules.json", "config.json", "model.safetensors"], "no tokenizer"),
    ],
)
def test_missing_parts(names: list[str], message: str) -> None:
    """A model without configuration, weights or tokenizer is refused by what is missing."""
    with pytest.raises(FetchError) as caught:
        choose(names, PLAIN, "here")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([{"name": "0", "path": "../x", "type": f"{PREFIX}Transformer"}], "'../x' leads out of the model's folder"),
        ([{"name": "0", "path": "/etc", "type": f"{PREFIX}Transformer"}], "'/etc' leads out of the model's folder"),
        ([{"name": "0", "path": "a\0b", "type": f"{PREFIX}Transformer"}], "'a\\x00b' is no folder's name"),
        ([{"name": "0", "path": "", "type": "custom_st.Transformer"}], "type 'custom_st.Transformer' is not one of"),
        ([{"name": "0", "path": "", "type": [1]}], "type [1] is not one of"),
        ([{"name": "0", "path": "", "type": f"{PREFIX}Pooling"}], f"one {PREFIX}Transformer, as the first, is needed"),
        ([{"name": 0, "path": "", "type": f"{PREFIX}Transformer"}], "needs a name and a path that are strings"),
        ([{"name": "0", "path": "", "type": f"{PREFIX}Transformer"}], "no Pooling module"),
        (
            [
                {"name": kind, "path": kind, "type": f"{PREFIX}{kind}"}
                for kind in ("Transformer", "Normalize", "Pooling")
            ],
            "no Pooling module, as the second",
        ),
        ([{"name": "0", "type": f"{PREFIX}Transformer", "kwargs": {}}], "'kwargs' of"),
        (
            [{"name": "0", "path": "", "type": f"{PREFIX}{kind}"} for kind in ("Transformer", "Pooling")],
            "two modules have one name",
        ),
        ({"a": 1}, "a list of modules is expected"),
        ([], "a list of modules is expected"),
        ([{"idx": 0}], "type None is not one of"),
    ],
)
def test_odd_modules(modules: object, message: str) -> None:
    """modules.json that leads elsewhere, runs foreign code or is nothing of the kind is refused."""
    with pytest.raises(FetchError) as caught:
        parse_modules(orjson.dumps(modules), "here")
    assert message in str(caught.value)
