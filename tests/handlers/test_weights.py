"""Weights that are not in the file: nothing is computed with numbers that the model does not have."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from handlers.loading import LoadError, load
from handlers.weights import read_whole
from tests.model_folders import minilm_folder

Weights = dict[str, torch.Tensor]
NORM = "encoder.layer.3.output.LayerNorm"


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[Callable[[Weights], object]], Path]:
    """Makes a minilm whose weights were changed."""

    def damage(change: Callable[[Weights], object]) -> Path:
        folder = Path(shutil.copytree(minilm_folder(), tmp_path / "model"))
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return damage


Damaged = Callable[[Callable[[Weights], object]], Path]


def without(*prefixes: str) -> Callable[[Weights], object]:
    def change(weights: Weights) -> None:
        for name in [name for name in weights if name.startswith(prefixes)]:
            del weights[name]

    return change


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (NORM, f"{NORM}.bias, {NORM}.weight"),
        ("encoder.layer.5.attention.self.query.weight", "encoder.layer.5.attention.self.query.weight"),
        ("embeddings.word_embeddings.weight", "embeddings.word_embeddings.weight"),
        ("encoder.layer.4", "encoder.layer.4.attention.output.LayerNorm.bias, .* and 13 more"),
    ],
)
def test_missing_weights_are_refused_by_name(gone: str, named: str, damaged: Damaged) -> None:
    """One LayerNorm, a matrix, the embeddings, a whole layer: the error names the weights, the file and what to do."""
    with pytest.raises(LoadError, match=rf"model\.safetensors lacks {named}.*get the model again"):
        load(damaged(without(gone)), device="cpu", dtype="float32")


def test_what_no_vector_depends_on_is_a_note(damaged: Damaged) -> None:
    """A missing pooler, which no vector needs, is told; the vectors are those of the whole model."""
    folder = damaged(without("pooler"))
    model, whole = (load(each, device="cpu", dtype="float32") for each in (folder, minilm_folder()))
    (note,) = model.notes
    assert "model.safetensors lacks pooler.dense.bias, pooler.dense.weight" in note
    assert whole.notes == ()
    ids = torch.tensor([[101, 2023, 102]])
    one, other = (each.transformer.auto_model(ids)[0] for each in (model, whole))
    assert torch.equal(one, other)


def test_what_is_not_the_models_is_a_note(damaged: Damaged) -> None:
    """A weight that the model has no place for is told by name."""
    folder = damaged(lambda weights: weights.update({"classifier.weight": torch.zeros(2, 384)}))
    assert ["classifier.weight" in note for note in load(folder, device="cpu", dtype="float32").notes] == [True]


def test_another_shape_is_refused_by_name(damaged: Damaged) -> None:
    """A matrix of another size than config.json says: the error names it with both shapes, and no library's advice."""
    folder = damaged(lambda weights: weights.update({f"{NORM}.weight": torch.ones(7)}))
    with pytest.raises(LoadError, match=rf"{NORM}\.weight is 7.*384") as caught:
        load(folder, device="cpu", dtype="float32")
    assert "ignore_mismatched_sizes" not in str(caught.value)


@pytest.mark.parametrize("shard", ["../other/model.safetensors", "{tmp}/other/model.safetensors"])
def test_an_index_names_files_of_the_folder_alone(shard: str, damaged: Damaged, tmp_path: Path) -> None:
    """Weights that lie elsewhere on the machine are not the model's: refused by the index's name."""
    folder = damaged(lambda weights: None)
    (tmp_path / "other").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "other/model.safetensors")
    names = load_file(tmp_path / "other/model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, shard.format(tmp=tmp_path))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LoadError, match=r"index\.json.*other/model\.safetensors' is no file"):
        load(folder, device="cpu", dtype="float32")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("gone", ["encoder.layer.3.output.dense.weight", None])
def test_a_weight_that_only_the_index_has_is_refused(gone: str | None, kind: str, damaged: Damaged) -> None:
    """transformers takes an index's word for what its shards hold, and draws what they lack: it is named here."""
    folder = damaged(lambda weights: None)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if kind == "safetensors" else "pytorch_model"
    shard = f"{stem}-00001-of-00001.{kind}"
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, shard)}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))
    weights.pop(gone or "", None)
    if kind == "safetensors":
        save_file(weights, folder / shard, metadata={"format": "pt"})
    else:
        torch.save(weights, folder / shard)
    if gone is None:
        assert load(folder, device="cpu", dtype="float32").notes == ()
        return
    with pytest.raises(LoadError, match=rf"index\.json names {gone}, and no file"):
        load(folder, device="cpu", dtype="float32")


@pytest.mark.parametrize("content", [b"{}", b"[1", b'{"weight_map": [1]}', b'{"weight_map": {"a": []}}', b"\xff"])
def test_an_odd_index_is_told(content: bytes, damaged: Damaged) -> None:
    """An index that is none is called so, by its name."""
    folder = damaged(lambda weights: None)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(LoadError, match=r"index\.json: it does not say in which files"):
        load(folder, device="cpu", dtype="float32")


def prefixed(weights: Weights) -> None:
    for name in list(weights):
        weights[f"bert.{name}"] = weights.pop(name)


def test_a_prefix_is_no_difference(damaged: Damaged) -> None:
    """Weights that were saved with a head carry a prefix: all of them are found."""
    assert load(damaged(prefixed), device="cpu", dtype="float32").notes == ()


def test_behind_a_prefix_what_lacks_is_found(damaged: Damaged) -> None:
    """The same without one LayerNorm is refused by its name."""

    def change(weights: Weights) -> None:
        without(NORM)(weights)
        prefixed(weights)

    with pytest.raises(LoadError, match=NORM):
        load(damaged(change), device="cpu", dtype="float32")


SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 50}
CONFIGS = {
    "bert": transformers.BertConfig(**SIZES),
    "xlm-roberta": transformers.XLMRobertaConfig(**SIZES),
    "mpnet": transformers.MPNetConfig(**SIZES),
    "albert": transformers.AlbertConfig(**SIZES, embedding_size=16),
    "distilbert": transformers.DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=64, vocab_size=50),
    "gpt2": transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50),
    "qwen2": transformers.Qwen2Config(**SIZES, num_key_value_heads=2),
    "t5": transformers.T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, vocab_size=50),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_weight_is_made_up(kind: str, tmp_path: Path) -> None:
    """Of architectures of several kinds: whichever weight lacks, it is refused, or the token vectors are the same."""
    config = CONFIGS[kind]
    torch.manual_seed(0)
    saved = transformers.AutoModel.from_config(config).eval()
    reader = transformers.T5EncoderModel if kind == "t5" else transformers.AutoModel
    saved.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    ids = torch.tensor([[5, 6, 7, 8]])

    def tokens(model: Any) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), return_dict=False)[0]
        return found

    model, notes = read_whole(reader, tmp_path, config)
    expected = tokens(model)
    assert [note for note in notes if "lacks" in note] == []
    refused = 0
    for name in weights:
        save_file({key: value for key, value in weights.items() if key != name}, tmp_path / "model.safetensors",
                  metadata={"format": "pt"})  # fmt: skip
        try:
            model, notes = read_whole(reader, tmp_path, config)
        except LoadError as error:
            assert name in str(error)  # noqa: PT017 - some are refused, others are not needed
            refused += 1
        else:
            assert torch.equal(expected, tokens(model)), name
    assert refused > 5
