"""Which files of a model folder are served: one weight format, no documentation, nothing of other frameworks.

Works on names alone, so that a hub's listing and a folder are chosen from alike.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from archives.errors import FetchError
from handlers.model_folder import (
    MODULE_FILES,
    MODULES,
    ROOT_FILES,
    TOKENIZER_FILES,
    TRANSFORMER,
    TRANSFORMER_FILES,
    LoadError,
    Module,
)
from handlers.model_folder import parse_modules as _parse_modules

_LICENCES = re.compile(r"(LICENSE|LICENCE|NOTICE)[\w .,()+-]*", re.IGNORECASE)  # they go with the weights
_ADAPTER = "adapter_config.json"
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", re.compile(r"model-\d+-of-\d+\.safetensors"))
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", re.compile(r"pytorch_model-\d+-of-\d+\.bin"))
_TOKENIZERS = sorted(TOKENIZER_FILES - {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})


def parse_modules(content: bytes, where: str) -> list[Module]:
    """modules.json → the model's steps, in order. Raises FetchError where it names anything that is not served."""
    try:
        return _parse_modules(content, where)
    except LoadError as error:
        raise FetchError(str(error)) from error


def is_weights(name: str) -> bool:
    """Whether this file of a model holds weights, or says where they are."""
    return name.endswith((".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"))


def _weights(names: set[str], kinds: tuple[str, str, re.Pattern[str]]) -> set[str]:
    """The one file, or the index with its shards, of a weight format; empty if it is not there."""
    single, index, shard = kinds
    if single in names:
        return {single}
    if index in names:
        return {index, *(name for name in names if shard.fullmatch(name))}
    return set()


def choose(names: Iterable[str], modules: Sequence[Module], where: str) -> list[str]:
    """The files to serve, sorted; `names` are relative with forward slashes.

    Raises:
        FetchError: weights, config.json or a tokenizer are missing, or the weights are an adapter's.
    """
    everything = set(names)
    chosen = {name for name in everything if name in ROOT_FILES or _LICENCES.fullmatch(name)}
    for module in modules:
        inside = {name for name in everything if module.file(PurePosixPath(name).name) == name}
        here = {PurePosixPath(name).name for name in inside}
        # sentence-transformers 2.2.2 reads safetensors for the transformer only.
        order = (_SAFETENSORS, _PICKLED) if module.type == TRANSFORMER else (_PICKLED,)
        read = here & (TRANSFORMER_FILES if module.type == TRANSFORMER else MODULE_FILES)
        read |= next((found for kinds in order if (found := _weights(here, kinds))), set())
        read |= {name for name in here if _LICENCES.fullmatch(name)}
        chosen |= {module.file(name) for name in read}
        if module.type == TRANSFORMER:
            _require(read, module.path or ".", here, where)
    return sorted(chosen)


def _require(chosen: set[str], folder: str, inside: set[str], where: str) -> None:
    if _ADAPTER in inside:
        raise FetchError(
            f"{where}: {folder}/{_ADAPTER}: an adapter to another model is not served: merge the two and save the whole"
        )
    if "config.json" not in chosen:
        raise FetchError(f"{where}: {folder}/config.json is missing: this is not a transformers model")
    if not any(name.endswith((".safetensors", ".bin")) for name in chosen):
        others = sorted(name for name in inside if name.endswith((".h5", ".msgpack", ".onnx", ".ot", ".gguf")))
        beside = f" (there are {', '.join(others[:3])}, which PyTorch cannot load)" if others else ""
        raise FetchError(f"{where}: no weights: {folder} has neither model.safetensors nor pytorch_model.bin{beside}")
    if not chosen.intersection(_TOKENIZERS):
        raise FetchError(f"{where}: no tokenizer: {folder} has none of {', '.join(_TOKENIZERS)}")


def no_modules(names: Iterable[str], where: str) -> FetchError:
    """What to say of a folder or repository without modules.json."""
    if "config.json" in set(names):
        return FetchError(
            f"{where}: {MODULES} is missing: a plain transformers model says nothing of pooling, and none is assumed. "
            "Save it with sentence-transformers (SentenceTransformer(modules=[…]).save(folder)) and name that folder"
        )
    return FetchError(f"{where}: {MODULES} and config.json are missing: this is not a sentence-transformers model")
