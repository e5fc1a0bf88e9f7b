"""A transformer with all the weights that it computes with: what its file lacks is found, not drawn at random.

transformers fills what a weight file lacks with random numbers and says so in a line of its log. A vector would then
differ from load to load, or, as a LayerNorm starts with ones, be the same wrong one everywhere.
"""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import safe_open

from .model_folder import LoadError

_NAMED = 3  # of the weights that are missing


def read_whole(kind: Any, folder: Path, config: Any) -> tuple[Any, list[str]]:
    """(the model, of transformers' class `kind`; notes about weights that no vector depends on).

    Raises LoadError where a weight that the vectors depend on is not in the file, or has another shape there, or an
    index names a file elsewhere.
    """
    file = _weights_file(folder)
    if file.name.endswith(".index.json"):
        _check_index(file)
    try:
        model, report = kind.from_pretrained(str(folder), config=config, output_loading_info=True)
    except RuntimeError:  # another shape, mostly: asked again, it says of what
        model, report = kind.from_pretrained(
            str(folder), config=config, output_loading_info=True, ignore_mismatched_sizes=True
        )
        if not report["mismatched_keys"]:
            raise
    shapes = {key: (there, here) for key, there, here in report["mismatched_keys"]}
    lacking = {key: _own_name(model, key) for key in sorted({*report["missing_keys"], *shapes})}
    computed_with = _used(model, [name for name in lacking.values() if name])
    used = [key for key, name in lacking.items() if name in computed_with]
    if odd := [key for key in used if key in shapes]:
        there, here = (" x ".join(map(str, shape)) for shape in shapes[odd[0]])
        raise LoadError(f"{file}: {odd[0]} is {there}, and config.json makes it {here}: get the model again")
    if used:
        raise LoadError(
            f"{file} lacks {_few(used)}, without which the vectors are not the model's: get the model again, or save "
            "it whole"
        )
    notes = []
    if lacking:
        notes.append(f"{file} lacks {_few(list(lacking))}, on which no vector depends")
    if unexpected := sorted(report["unexpected_keys"]):
        notes.append(f"{file} has {_few(unexpected)}, which the model has no place for")
    return model, notes


def _used(model: Any, names: Sequence[str]) -> list[str]:
    """Those of the model's parameters that its token vectors depend on: without numbers in them, others come out."""
    if not names:
        return []
    parameters = dict(model.named_parameters(remove_duplicate=False))
    drawn = {name: parameters[name].detach().clone() for name in names}
    ids = torch.arange(2, 10)[None] % model.get_input_embeddings().num_embeddings

    def tokens() -> torch.Tensor:
        output: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), return_dict=False)[0]
        return output

    def depends_on(some: Sequence[str]) -> bool:
        for name in some:
            parameters[name].fill_(torch.nan)
        without = tokens()  # not all NaN: attention's kernels let some of them pass for nothing
        for name in some:
            parameters[name].copy_(drawn[name])
        return not torch.equal(without, whole)

    with torch.no_grad():
        whole = tokens()
        # Mostly a pooler's: one pass says that nothing depends on any of them.
        return [name for name in drawn if depends_on([name])] if depends_on(list(drawn)) else []


def _own_name(model: Any, key: str) -> str | None:
    """The parameter that the report means: its names are those of the file, with the head's prefix or without."""
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    prefix = f"{model.base_model_prefix}."
    return next((name for name in (key, key.removeprefix(prefix), prefix + key) if name in known), None)


def _weights_file(folder: Path) -> Path:
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    return next((folder / name for name in names if (folder / name).exists()), folder)


def _check_index(file: Path) -> None:
    """Whether its shards, all of this folder, have the weights that it names: transformers believes it."""
    try:
        named = json.loads(file.read_bytes())["weight_map"]
        shards = set(named.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LoadError(f"{file}: it does not say in which files the weights are: get the model again") from error
    if odd := [name for name in shards if not isinstance(name, str) or PurePosixPath(name).name != name]:
        raise LoadError(f"{file}: {odd[0]!r} is no file of the model's folder: it cannot be served")
    there = {key for shard in shards for key in _keys(file.parent / shard)}
    if lacking := sorted(named.keys() - there):
        raise LoadError(f"{file} names {_few(lacking)}, and no file that it names has it: get the model again")


def _keys(shard: Path) -> list[str]:
    """The names of a shard's weights; nothing else of it is read."""
    if shard.suffix == ".safetensors":
        with safe_open(shard, framework="pt") as opened:
            return list(opened.keys())
    return list(torch.load(shard, map_location="meta", weights_only=True))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
