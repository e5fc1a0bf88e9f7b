"""A sentence-transformers folder → its modules, ready to compute on one device.

Loaded by sentence-transformers 2.2.2. The folder is data, and is kept to it: only the listed module classes
(model_folder.py), weights without pickled code (safetensors, or torch's weights-only reading) and all that is computed
with (weights.py), nothing from the network.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from .card import Dtype
from .model_folder import LoadError, check_folder, settings_file
from .packing import WEIGHTED_SUMS

__all__ = ["LoadError", "LoadedModel", "described", "load", "quietly", "transformer_of"]

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
# Their forward pass is embeddings, then encoder. Called as they are, they compute a pooler that nobody reads, ask the
# device whether anything is padded (on a GPU that waits for all that was launched), and make the mask as large as
# the scores of all tokens by all tokens.
_BERT_LIKE = frozenset({"BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel"})


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """`transformer` first, then the other `modules` in order; see the attributes' names for the limits.

    `position_limit` is how many tokens the position embeddings carry, None where they do not say;
    `own_limit` is what the folder itself asks for. `vocabulary` is how many ids have an embedding, `unembedded` the
    ids that the tokenizer makes beyond them, with their tokens. `notes` are what whoever loads it should be told.
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
    unembedded: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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


def load(folder: Path, *, device: str, dtype: Dtype) -> LoadedModel:
    """The folder's model on `device`, its transformer in `dtype`, everything behind it in float32.

    Raises LoadError for a folder that is not complete, not trusted or not served by this kit.
    """
    first, *rest = check_folder(folder)
    import torch

    _keep_float32_exact(torch)
    notes: list[str] = []

    def read(kind: Any, path: str, config: Any) -> Any:
        auto_model, said = read_whole(kind, Path(path), config)
        notes.extend(said)
        return auto_model

    with quietly(folder):
        from sentence_transformers import models

        from .weights import read_whole

        transformer = transformer_of(folder / first.path, read)
        others = [getattr(models, module.type.rpartition(".")[2]).load(str(folder / module.path)) for module in rest]
    last = [module for module in others if hasattr(module, "get_sentence_embedding_dimension")][-1]
    loaded = described(
        folder, transformer, others, dimensions=int(last.get_sentence_embedding_dimension()), notes=notes
    )
    transformer.auto_model.to(device=torch.device(device), dtype=getattr(torch, dtype))
    for module in (transformer, *others):
        module.to(device)
        module.eval()
        module.requires_grad_(False)
    return loaded


def transformer_of(folder: Path, read: Callable[[Any, str, Any], Any]) -> Any:
    """sentence-transformers' Transformer of this folder, its model made by `read` of class, folder and config."""
    from sentence_transformers.models import Transformer
    from transformers import AutoModel, T5Config, T5EncoderModel

    class Read(Transformer):  # type: ignore[misc]
        def _load_model(self, model_name_or_path: str, config: Any, cache_dir: str | None) -> None:
            kind = T5EncoderModel if isinstance(config, T5Config) else AutoModel
            self.auto_model = read(kind, model_name_or_path, config)

    return Read(str(folder), **orjson.loads(settings_file(folder).read_bytes()))


def described(
    folder: Path, transformer: Any, others: Sequence[Any], *, dimensions: int, notes: Sequence[str] = ()
) -> LoadedModel:
    """What is known of a model: its modules, with weights or without, its limits, and what to tell of it.

    Raises LoadError where there is no fast tokenizer.
    """
    tokenizer = transformer.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise LoadError(f"{folder}: it has no fast tokenizer (tokenizer.json), and none could be made from its files")
    rows = int(transformer.auto_model.get_input_embeddings().num_embeddings)
    unembedded = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    if unembedded:
        first = min(unembedded)
        more = f" and {len(unembedded) - 1} more" if len(unembedded) > 1 else ""
        notes = (
            *notes,
            f"its tokenizer makes {unembedded[first]!r} (id {first}){more}, and its embeddings have {rows} rows: a "
            "text with such a token is refused with a 400; to have them served, resize the model and train it",
        )
    own, carried = transformer.max_seq_length, _position_limit(transformer.auto_model)
    if own is not None and carried is not None and own > carried:
        notes = (
            *notes,
            f"the folder says max_seq_length = {own}, and its position embeddings carry {carried} tokens: that is read",
        )
    padding = tokenizer.pad_token_id
    return LoadedModel(
        transformer=transformer,
        modules=tuple(others),
        tokenizer=tokenizer,
        dimensions=dimensions,
        vocabulary=rows,
        own_limit=own,
        position_limit=carried,
        lower_case=bool(transformer.do_lower_case),
        # Padding is masked, so any row does; one that is not there would end the whole pass.
        pad_token_id=padding if padding is not None and padding < rows else 0,
        unembedded=unembedded,
        notes=tuple(notes),
    )


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
        except (MemoryError, LoadError):
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
