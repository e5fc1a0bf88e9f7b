"""Weights that are not in the file: nothing is computed with numbers that the model does not have."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from handlers.loading import LoadError, load
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
