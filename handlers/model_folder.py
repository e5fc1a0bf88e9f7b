"""What a model folder may name, and what of it is served: the one list, for fetching, packing, verifying and loading.

A folder is data from somebody else. Whatever its JSON files name beyond these lists is left out of what is served where
the model is the same without it, and refused where it is not. Decided from small files alone, before weights are
fetched; so this imports neither torch nor transformers, whose names the lists hold (tests hold them together).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

MODULES = "modules.json"
# Where sentence-transformers 2.2.2 looks for the transformer's settings, in its order.
_TRANSFORMER_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


class LoadError(Exception):
    """A model that cannot be served; the message names the file or setting and the next step.

    Not a RuntimeError: TorchServe takes any of those that mentions CUDA for a lack of memory.
    """


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that a module's configuration may have: in words, as a test, and whether it has to be there."""

    said: str
    fits: Callable[[Any], bool]
    required: bool = False


def _one_of(*values: object, required: bool = False) -> Setting:
    return Setting(f"one of {', '.join(map(str, values))}", lambda value: value in values, required)


# Larger ones are no number of tokens or dimensions, and the libraries cannot hold them.
_SIZE = Setting(
    "a whole number from 1 to 2147483647", lambda value: type(value) is int and 1 <= value < 2**31, required=True
)
_LIMIT = Setting("a whole number from 1 to 2147483647, or null", lambda value: value is None or _SIZE.fits(value))
_FLAG = Setting("true or false", lambda value: type(value) is bool)
_SHARE = Setting("a number from 0 to 1", lambda value: type(value) in (int, float) and 0 <= value <= 1)
# What Dense may call; each is imported by its name.
_ACTIVATIONS = _one_of(
    *(f"torch.nn.modules.activation.{name}" for name in ("Tanh", "ReLU", "GELU", "Sigmoid", "LeakyReLU", "SiLU")),
    "torch.nn.modules.linear.Identity",
    required=True,
)
# Module class → the keys of its configuration; the first two are those that every model has. Each serves as plain
# sentence-transformers does (tests/handlers/test_modules.py).
MODULE_CLASSES: Mapping[str, Mapping[str, Setting]] = {
    "sentence_transformers.models.Transformer": {"max_seq_length": _LIMIT, "do_lower_case": _FLAG},
    "sentence_transformers.models.Pooling": {
        "word_embedding_dimension": _SIZE,
        "pooling_mode": _one_of(None, "mean", "max", "cls"),
        "pooling_mode_cls_token": _FLAG,
        "pooling_mode_mean_tokens": _FLAG,
        "pooling_mode_max_tokens": _FLAG,
        "pooling_mode_mean_sqrt_len_tokens": _FLAG,
    },
    "sentence_transformers.models.Dense": {
        "in_features": _SIZE,
        "out_features": _SIZE,
        "bias": _FLAG,
        "activation_function": _ACTIVATIONS,
    },
    "sentence_transformers.models.LayerNorm": {"dimension": _SIZE},
    "sentence_transformers.models.Dropout": {"dropout": _SHARE},
    "sentence_transformers.models.Normalize": {},
}
TRANSFORMER, POOLING, *_ = MODULE_CLASSES
_MODULE_KEYS = frozenset({"idx", "name", "path", "type"})

# Text models of the pinned transformers that have a fast tokenizer. Left out: those made of other models that the
# folder names, and those that compile code when they are imported.
MODEL_TYPES = frozenset(
    {
        "albert", "bart", "bert", "big_bird", "bloom", "camembert", "convbert", "data2vec-text", "deberta",
        "deberta-v2", "distilbert", "electra", "ernie", "falcon", "fnet", "funnel", "gemma", "gemma2", "gpt2",
        "gpt_neo", "gpt_neox", "gptj", "ibert", "led", "llama", "longformer", "longt5", "mbart", "megatron-bert",
        "mistral", "mobilebert", "modernbert", "mpnet", "mt5", "nezha", "nystromformer", "olmo", "opt", "pegasus",
        "phi", "phi3", "qwen2", "rembert", "roberta", "roberta-prelayernorm", "roformer", "splinter", "squeezebert",
        "stablelm", "starcoder2", "t5", "umt5", "xglm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod",
    }
)  # fmt: skip
# Their tokenizers, and those that go with several, without "Tokenizer" and "TokenizerFast": any other name could be
# any class of transformers, with a from_pretrained of its own.
TOKENIZERS = frozenset(
    {
        "Albert", "Bart", "Barthez", "Bert", "BigBird", "Bloom", "Camembert", "CodeGen", "ConvBert", "Deberta",
        "DebertaV2", "DistilBert", "Electra", "FNet", "Funnel", "GPT2", "GPTNeoX", "Gemma", "Herbert", "LED",
        "Llama", "Longformer", "MBart", "MBart50", "MPNet", "MT5", "MobileBert", "Nllb", "Pegasus", "PreTrained",
        "Qwen2", "RemBert", "RoFormer", "Roberta", "Splinter", "SqueezeBert", "T5", "XGLM", "XLMRoberta", "XLNet",
    }
)  # fmt: skip
TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
        "vocab.json", "merges.txt", "sentencepiece.bpe.model", "sentencepiece.model", "spiece.model", "spm.model",
        "tokenizer.model",
    }
)  # fmt: skip
# Read at load beside weights, by sentence-transformers, transformers and this kit.
ROOT_FILES = frozenset({MODULES, "config_sentence_transformers.json"})
TRANSFORMER_FILES = frozenset({"config.json", *_TRANSFORMER_SETTINGS}) | TOKENIZER_FILES
MODULE_FILES = frozenset({"config.json"})

# Beside the names that end in _file, which can lead out of the folder, and are found there without being named.
_LEFT_OUT = frozenset({"auto_map", "custom_pipelines", "chat_template", "init_inputs"})
_REFUSED = {
    "quantization_config": "its weights are not numbers as they stand",
    "compression_config": "its weights are not numbers as they stand",
    "configuration_files": "it puts another file in this one's place",
    "fast_tokenizer_files": "it puts another file in tokenizer.json's place",
}


@dataclass(frozen=True, slots=True)
class Module:
    """One step of modules.json: its sub-folder ("" for the model's own) and its class, one of MODULE_CLASSES."""

    path: str
    type: str

    def file(self, name: str) -> str:
        """A file of its sub-folder, relative to the model's folder."""
        return f"{self.path}/{name}" if self.path else name


@dataclass(frozen=True, slots=True)
class Contents:
    """A folder that may be served: its modules in order, and the files (name → content) that are served in place of
    those there, for what was left out of them (`left_out`, as "file: key")."""

    modules: tuple[Module, ...]
    replaced: Mapping[str, bytes]
    left_out: tuple[str, ...]


def read_contents(folder: Path) -> Contents:
    """What this folder holds, by its small files alone (`metadata`).

    Raises LoadError where something is missing or not on the lists, naming file, key and value.
    """
    modules = parse_modules(_read(folder / MODULES), str(folder))
    replaced: dict[str, bytes] = {}
    left_out: list[str] = []
    for module in modules:
        if module.type != TRANSFORMER:
            if MODULE_CLASSES[module.type]:
                _check_settings(folder / module.file("config.json"), MODULE_CLASSES[module.type])
            continue
        _check_settings(settings_file(folder / module.path), MODULE_CLASSES[module.type])
        _check_names(folder, module)
        for name in (module.file(name) for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json")):
            if (folder / name).exists():
                values = _object(folder / name)
                kept = {key: value for key, value in values.items() if not (key in _LEFT_OUT or key.endswith("_file"))}
                if kept != values:
                    replaced[name] = (json.dumps(kept, indent=2) + "\n").encode()
                    left_out += (f"{name}: {key}" for key in values if key not in kept)
    return Contents(tuple(modules), replaced, tuple(left_out))


def check_folder(folder: Path) -> tuple[Module, ...]:
    """The folder's modules, in order, of a folder that is to be loaded as it stands.

    Raises LoadError as `read_contents` does, and where anything would have been left out by packing it.
    """
    contents = read_contents(folder)
    if contents.left_out:
        file, _, key = contents.left_out[0].partition(": ")
        raise LoadError(f"{folder / file}: {key} is not loaded: pack the model, which leaves it out, or remove it")
    return contents.modules


def metadata(modules: Iterable[Module]) -> set[str]:
    """The files, those that are there, which `read_contents` decides by."""
    names = {MODULES}
    for module in modules:
        more = (*_TRANSFORMER_SETTINGS, "tokenizer_config.json", "special_tokens_map.json")
        names |= {module.file(name) for name in ("config.json", *(more if module.type == TRANSFORMER else ()))}
    return names


def parse_modules(content: bytes, where: str) -> list[Module]:
    """modules.json → the model's steps, in order: a Transformer, and what makes one vector of its tokens'.

    Raises LoadError for a class that is not on the list, a path that leads out of the folder, or another order.
    """
    file = f"{where}: {MODULES}"
    raw = _parse(content, file)
    if not isinstance(raw, list) or not raw or not all(isinstance(entry, dict) for entry in raw):
        raise LoadError(f"{file}: a list of modules is expected: get the model again")
    modules = []
    for entry in raw:
        kind, path, name = (entry.get(key) for key in ("type", "path", "name"))
        if not isinstance(kind, str) or kind not in MODULE_CLASSES:
            raise LoadError(f"{file}: type {kind!r} is not one of {', '.join(MODULE_CLASSES)}: it cannot be served")
        if odd := sorted(entry.keys() - _MODULE_KEYS):
            raise LoadError(f"{file}: {odd[0]!r} of {kind} is not one of {', '.join(sorted(_MODULE_KEYS))}")
        if not isinstance(name, str) or not isinstance(path, str):
            raise LoadError(f"{file}: {kind} needs a name and a path that are strings: get the model again")
        parts = PurePosixPath(path).parts
        if path.startswith("/") or "\\" in path or any(part.startswith(".") for part in parts):
            raise LoadError(f"{file}: path {path!r} leads out of the model's folder: it cannot be served")
        if not path.isprintable():
            raise LoadError(f"{file}: path {path!r} is no folder's name: get the model again")
        modules.append(Module("/".join(parts), kind))
    kinds = [module.type for module in modules]
    if kinds[0] != TRANSFORMER or kinds.count(TRANSFORMER) != 1:
        raise LoadError(f"{file}: {', '.join(kinds)}: one {TRANSFORMER}, as the first, is needed")
    if kinds[1:2] != [POOLING]:
        raise LoadError(
            f"{file}: {', '.join(kinds)}: no Pooling module, as the second, makes one vector of a text's tokens"
        )
    if len({entry["name"] for entry in raw}) < len(raw):
        raise LoadError(f"{file}: two modules have one name, so one would be left out: get the model again")
    return modules


def settings_file(folder: Path) -> Path:
    """Where sentence-transformers 2.2.2 reads a transformer's settings: the first of its names that is there."""
    # Without any it opens the last: the error names the one that is saved today.
    return next((path for name in _TRANSFORMER_SETTINGS if (path := folder / name).exists()),
                folder / _TRANSFORMER_SETTINGS[0])  # fmt: skip


def _check_settings(path: Path, allowed: Mapping[str, Setting]) -> None:
    values = _object(path)
    for key, value in values.items():
        if key not in allowed:
            raise LoadError(f"{path}: {key!r} is not one of {', '.join(allowed)}: it cannot be served")
        if not allowed[key].fits(value):
            raise LoadError(f"{path}: {key} is {value!r}, not {allowed[key].said}")
    for key, setting in allowed.items():
        if setting.required and key not in values:
            raise LoadError(f"{path}: {key} is missing: {setting.said} is expected")


def _check_names(folder: Path, module: Module) -> None:
    """What config.json and tokenizer_config.json name of transformers."""
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / module.file(name)
        if name != "config.json" and not path.exists():
            continue
        values = _object(path)
        for key, reason in _REFUSED.items():
            if values.get(key) is not None:
                raise LoadError(f"{path}: {key}: {reason}; such a model cannot be served")
        needs = "; auto_map names Python of the folder's own, which is never run" if values.get("auto_map") else ""
        model = values.get("model_type")
        if name == "config.json" and (not isinstance(model, str) or model not in MODEL_TYPES):
            raise LoadError(f"{path}: model_type {model!r} is not one that is served{needs}")
        kind = values.get("tokenizer_class")
        if kind is not None and (not isinstance(kind, str) or _plain_name(kind) not in TOKENIZERS):
            raise LoadError(f"{path}: tokenizer_class {kind!r} is not one that is served{needs}")


def _plain_name(tokenizer_class: str) -> str:
    name = tokenizer_class.removesuffix("Fast")
    return name.removesuffix("Tokenizer") if name.endswith("Tokenizer") else ""


def _object(path: Path) -> dict[str, Any]:
    value = _parse(_read(path), str(path))
    if not isinstance(value, dict):
        raise LoadError(f"{path}: an object is expected, not {type(value).__name__}: get the model again")
    return value


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror or error}; is this a sentence-transformers folder?") from error


def _parse(content: bytes, where: str) -> Any:
    try:
        return json.loads(content.decode("utf-8"))  # not orjson: a tokenizer's limits go beyond 64 bits
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{where}: not JSON ({error}); get the model again") from error
