"""Which files of a model folder are served: one weight format, no documentation, nothing of other frameworks.

Works on names alone, so that a hub's listing and a folder are chosen from alike.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import orjson

from archives.errors import FetchError

MODULES = "modules.json"
_TRANSFORMER = "sentence_transformers.models.Transformer"

# What lies beside weights and is read when a model is loaded: settings, vocabularies, licences.
_SETTINGS = re.compile(r".*\.(json|txt|model|vocab|bpe|spm)|(LICENSE|LICENCE|NOTICE)[^/]*", re.IGNORECASE)
_UNUSED = re.compile(
    r"data_config\.json|train(er|ing)_.*|.*requirements.*\.txt|README.*|.*\.index\.json", re.IGNORECASE
)
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", re.compile(r"model-\d+-of-\d+\.safetensors"))
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", re.compile(r"pytorch_model-\d+-of-\d+\.bin"))
_TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)


@dataclass(frozen=True)
class Module:
    """One step of modules.json: its sub-folder ("" for the model's own) and its class."""

    path: str
    type: str


def parse_modules(content: bytes, where: str) -> list[Module]:
    """modules.json → the model's steps, in order.

    Raises:
        FetchError: it is not what sentence-transformers writes, or leads out of the folder.
    """
    try:
        raw = orjson.loads(content)
        modules = [Module(str(entry["path"]), str(entry["type"])) for entry in raw]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise FetchError(f"{where}: {MODULES} is not a list of modules ({error}): get the model anew") from error
    for module in modules:
        parts = PurePosixPath(module.path).parts
        if module.path.startswith("/") or "\\" in module.path or any(part.startswith(".") for part in parts):
            raise FetchError(f"{where}: {MODULES} names the path {module.path!r}, outside the model: it is not usable")
        if not module.type.startswith("sentence_transformers.models."):
            raise FetchError(
                f"{where}: {MODULES} asks for the class {module.type!r}, which sentence-transformers lacks"
            )
    if not any(module.type == _TRANSFORMER for module in modules):
        raise FetchError(f"{where}: {MODULES} has no {_TRANSFORMER}: only transformer models can be served")
    return modules


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


def _choose(names: set[str], *, transformer: bool) -> set[str]:
    """Files of one module's folder. sentence-transformers 2.2.2 reads safetensors for the transformer only."""
    settings = {name for name in names if _SETTINGS.fullmatch(name) and not _UNUSED.fullmatch(name)}
    order = (_SAFETENSORS, _PICKLED) if transformer else (_PICKLED,)
    weights = next((found for kinds in order if (found := _weights(names, kinds))), set())
    return settings | weights


def choose(names: Iterable[str], modules: list[Module], where: str) -> list[str]:
    """The files to serve, sorted; `names` are relative with forward slashes.

    Raises:
        FetchError: weights, config.json or a tokenizer are missing.
    """
    everything = set(names)
    transformers = {module.path for module in modules if module.type == _TRANSFORMER}
    chosen: set[str] = set()
    for folder in sorted({"", *(module.path for module in modules)}):
        prefix = f"{folder}/" if folder else ""
        inside = {name.removeprefix(prefix) for name in everything if name.startswith(prefix)}
        here = _choose({name for name in inside if "/" not in name}, transformer=folder in transformers)
        chosen |= {prefix + name for name in here}
        if folder in transformers:
            _require(here, folder or ".", inside, where)
    return sorted(chosen)


def _require(chosen: set[str], folder: str, inside: set[str], where: str) -> None:
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
