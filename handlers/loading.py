"""A sentence-transformers folder → its modules, ready to compute on one device.

Loaded by sentence-transformers 2.2.2. The folder is data, and is kept to it: only its own module classes,
weights without pickled code (safetensors, or torch's weights-only reading), nothing from the network.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from .card import Dtype
from .packing import WEIGHTED_SUMS

log = logging.getLogger("embedkit")

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
_ALLOWED_MODULES = "sentence_transformers.models."
_ALLOWED_ACTIVATIONS = "torch.nn.modules."
# Where sentence-transformers 2.2.2 looks for the transformer's settings, in its order, and what may stand there. It
# takes more: model_args and tokenizer_args can say trust_remote_code, which runs the folder's own Python.
_TRANSFORMER_SETTINGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_ALLOWED_SETTINGS = frozenset({"max_seq_length", "do_lower_case"})
# Their forward pass is embeddings, then encoder. Called as they are, they compute a pooler that nobody reads, ask the
# device whether anything is padded (on a GPU that waits for all that was launched), and make the mask as large as
# the scores of all tokens by all tokens.
_BERT_LIKE = frozenset({"BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel"})


class LoadError(Exception):
    """A model that cannot be served; the message names the file or setting and the next step.

    Not a RuntimeError: TorchServe takes any of those that mentions CUDA for a lack of memory.
    """


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """`transformer` first, then the other `modules` in order; see the attributes' names for the limits.

    `position_limit` is how many tokens the position embeddings carry, None where they do not say;
    `own_limit` is what the folder itself asks for.
    """

    transformer: Any
    modules: tuple[Any, ...]
    tokenizer: Any
    dimensions: int
    vocabulary: int
    own_limit: int | None
    position_limit: int | None
    lower_case: bool
    pad_token_id: int

    @property
    def attention(self) -> str:
        """The attention the transformer computes with: "sdpa", "eager", …"""
        config = self.transformer.auto_model.config
        if getattr(config, "position_embedding_type", "absolute") != "absolute":
            return "eager"  # whatever was chosen: transformers falls back to it in the forward pass
        return str(getattr(config, "_attn_implementation", "unknown"))

    @property
    def pooling(self) -> str:
        """How token vectors become one: "cls", "mean", … or "" without a pooling module."""
        for module in self.modules:
            if hasattr(module, "get_pooling_mode_str"):
                return str(module.get_pooling_mode_str())
        return ""

    @property
    def is_bert_like(self) -> bool:
        """Whether embeddings and encoder, called one after the other, are all of its forward pass that is needed."""
        transformer = self.transformer.auto_model
        return type(transformer).__name__ in _BERT_LIKE and not transformer.config.output_hidden_states

    @property
    def can_pack(self) -> bool:
        """Whether rows of several texts can be computed: positions can be given, and pooling is a weighted sum."""
        kinds = [type(module).__name__ for module in self.modules]
        return (
            self.is_bert_like
            and self.attention == "sdpa"
            and self.pooling in WEIGHTED_SUMS
            and kinds[0] == "Pooling"
            and kinds.count("Pooling") == 1
        )

    @property
    def padding_position(self) -> int | None:
        """The position of padding, behind which RoBERTa and its kin count a text's tokens; None: they count from 0."""
        return _padding_position(_position_embeddings(self.transformer.auto_model))

    @property
    def max_tokens(self) -> int | None:
        """Tokens a text may have, special tokens included: the smaller of the two limits."""
        limits = [limit for limit in (self.own_limit, self.position_limit) if limit is not None]
        return min(limits) if limits else None


@dataclass(frozen=True, slots=True)
class Module:
    """One line of modules.json: its class, and the folder it is loaded from."""

    kind: str
    folder: Path


def load(folder: Path, *, device: str, dtype: Dtype) -> LoadedModel:
    """The folder's model on `device`, its transformer in `dtype`, everything behind it in float32.

    Raises LoadError for a folder that is not complete, not trusted or not served by this kit.
    """
    check_folder(folder)
    import torch

    _keep_float32_exact(torch)
    with quietly(folder):
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu")
    transformer, *others = model._modules.values()
    if not hasattr(transformer, "auto_model"):
        raise LoadError(f"{folder}: the first module is a {type(transformer).__name__}; a Transformer is needed")
    dimensions = model.get_sentence_embedding_dimension() or transformer.get_word_embedding_dimension()
    described_model = described(folder, transformer, others, dimensions=int(dimensions))
    transformer.auto_model.to(device=torch.device(device), dtype=getattr(torch, dtype))
    for module in others:
        module.to(device)
    model.eval()
    model.requires_grad_(False)
    return described_model


def described(folder: Path, transformer: Any, others: Sequence[Any], *, dimensions: int) -> LoadedModel:
    """What is known of a model: its modules, with weights or without, and its limits.

    Raises LoadError where there is no fast tokenizer, or nothing that pools.
    """
    if not getattr(transformer.tokenizer, "is_fast", False):
        raise LoadError(f"{folder}: it has no fast tokenizer (tokenizer.json), and none could be made from its files")
    if not any(hasattr(module, "get_pooling_mode_str") for module in others):
        raise LoadError(f"{folder / 'modules.json'}: no Pooling module makes one vector of a text's tokens")
    positions = _position_limit(transformer.auto_model)
    if positions is not None and (transformer.max_seq_length or 0) > positions:
        log.warning(
            "embedkit: the folder's max_seq_length is %d, its position embeddings carry %d tokens: texts are cut there",
            transformer.max_seq_length,
            positions,
        )
    return LoadedModel(
        transformer=transformer,
        modules=tuple(others),
        tokenizer=transformer.tokenizer,
        dimensions=dimensions,
        vocabulary=int(transformer.auto_model.get_input_embeddings().num_embeddings),
        own_limit=transformer.max_seq_length,
        position_limit=positions,
        lower_case=bool(transformer.do_lower_case),
        pad_token_id=transformer.tokenizer.pad_token_id or 0,
    )


def check_folder(folder: Path) -> list[Module]:
    """The folder's modules, in order.

    Raises LoadError where the folder would run code of its own choosing, or has no modules.json.
    """
    modules = _read_json(folder / "modules.json")
    if not isinstance(modules, list) or not modules or not all(isinstance(module, dict) for module in modules):
        raise LoadError(f"{folder / 'modules.json'}: a list of modules is expected")
    checked = []
    for module in modules:
        kind, path = str(module.get("type")), folder / str(module.get("path", ""))
        if not kind.startswith(_ALLOWED_MODULES):
            raise LoadError(f"{folder / 'modules.json'}: type {kind!r} is not one of {_ALLOWED_MODULES}*")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise LoadError(f"{folder / 'modules.json'}: path {module.get('path')!r} leads out of the folder")
        if kind.endswith(".Dense"):
            activation = str(_read_json(path / "config.json").get("activation_function"))
            if not activation.startswith(_ALLOWED_ACTIVATIONS):
                raise LoadError(f"{path / 'config.json'}: activation_function {activation!r} is not one of torch.nn's")
        if kind.endswith(".Transformer"):
            file = settings_file(path)
            settings = _read_json(file)
            if not isinstance(settings, dict) or (odd := sorted(settings.keys() - _ALLOWED_SETTINGS)):
                said = f"{odd[0]!r} is" if isinstance(settings, dict) else "it is"
                raise LoadError(f"{file}: {said} not one of {', '.join(sorted(_ALLOWED_SETTINGS))}: remove it")
        checked.append(Module(kind, path))
    return checked


def settings_file(folder: Path) -> Path:
    """Where sentence-transformers 2.2.2 reads a transformer's settings: the first of its names that is there."""
    found = (folder / f"sentence_{kind}_config.json" for kind in _TRANSFORMER_SETTINGS)
    # Without any it opens the last: the error names the one that is saved today.
    return next((path for path in found if path.exists()), folder / f"sentence_{_TRANSFORMER_SETTINGS[0]}_config.json")


def _read_json(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror or error}; is this a sentence-transformers folder?") from error
    except orjson.JSONDecodeError as error:
        raise LoadError(f"{path}: not JSON ({error}); fetch the model again") from error


@contextmanager
def _offline() -> Iterator[None]:
    # Read when huggingface_hub is first imported; an archive holds all it needs.
    before = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _keep_float32_exact(torch: Any) -> None:
    # TF32 keeps 10 of float32's 23 mantissa bits; nobody who chose float32 asked for that.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def quietly(folder: Path) -> Iterator[None]:
    """Load from `folder` in this block: offline, without a word, and any failure becomes a LoadError."""
    with warnings.catch_warnings(), _offline():
        # Deprecations inside the pinned libraries: known, and nothing an operator can act on.
        warnings.simplefilter("ignore")
        from transformers import dynamic_module_utils
        from transformers.utils import logging as transformers_logging

        dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # a folder with code of its own is refused, and nobody is asked
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            raise LoadError(f"{folder}: sentence-transformers cannot load it: {error}") from error


def _position_embeddings(auto_model: Any) -> Any:
    return getattr(getattr(auto_model, "embeddings", None), "position_embeddings", None)


def _padding_position(positions: Any) -> int | None:
    padding = getattr(positions, "padding_idx", None)
    return None if padding is None else int(padding)


def _position_limit(auto_model: Any) -> int | None:
    positions = _position_embeddings(auto_model)
    if positions is None or not hasattr(positions, "num_embeddings"):
        return None
    padding = _padding_position(positions)
    return int(positions.num_embeddings) - (0 if padding is None else padding + 1)
