"""A served model in one worker: card and folder → something that tokenizes and embeds.

Knows nothing of TorchServe or of requests.
"""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .card import ServingCard
from .devices import Choice
from .encoding import Vectors
from .loading import LoadedModel, LoadError, load
from .tokenizing import BatchTokenizer, Tokens

log = logging.getLogger("embedkit")

MODEL_FOLDER = "model"

_PROBES = ["a", "  How are vectors made?\t", "教练, 我想打篮球.", "MIXED case, 1,234.5 £ and 😀 naïve"]
_WARM_UP = ["How are vectors made?", "教练, 我想打篮球. " * 8]


class Engine:
    """The loaded model with its tokenizer. `max_tokens` is what it reads of a text, special tokens included."""

    def __init__(self, model: LoadedModel, card: ServingCard, device: str) -> None:
        from .modeling import Embedder

        limits = [limit for limit in (model.max_tokens, card.max_tokens) if limit is not None]
        if not limits:
            raise LoadError("the model folder names no max_seq_length; set max_tokens in models.toml")
        self.max_tokens = min(limits)
        self.dimensions = model.dimensions
        self.vocabulary = model.vocabulary
        self.model = model
        expected = _reference_tokens(model)
        try:
            self.tokenizer = BatchTokenizer(model.tokenizer, max_tokens=self.max_tokens, lower_case=model.lower_case)
        except ValueError as error:
            raise LoadError(f"{error}; raise max_tokens in models.toml") from error
        for wanted, got in zip(expected, self.tokenizer.encode_texts(_PROBES), strict=True):
            if wanted != got.ids and not got.truncated:
                raise LoadError("the tokenizer gives other ids than sentence-transformers' tokenizing; not served")
        self._embedder = Embedder(model, device=device, token_budget=card.token_budget)
        self._token_budget = card.token_budget
        self._on_gpu = device.startswith("cuda")

    def embed(self, batch: Sequence[Tokens]) -> Vectors:
        """L2-normalised float32 vectors (n, dimensions), in order."""
        return self._embedder.embed([tokens.ids for tokens in batch])

    def warm_up(self) -> None:
        """Computes before the first request does: kernels are chosen and memory is taken now.

        On a GPU the largest pass that can come is tried too, so that a model that does not fit fails at load.
        Raises LoadError where the vectors are not finite.
        """
        batch = self.tokenizer.encode_texts(_WARM_UP)
        vectors = self.embed(batch)
        if not np.isfinite(vectors).all():
            raise LoadError("the model gives vectors that are not finite; try dtype = 'float32' in models.toml")
        if self._on_gpu:
            longest = (batch[0].ids * self.max_tokens)[: self.max_tokens]
            count = max(1, self._token_budget // self.max_tokens)
            self.embed([Tokens(longest, len(longest))] * count)


def load_engine(card: ServingCard, folder: Path, choice: Choice, *, check: Callable[[LoadedModel], None]) -> Engine:
    """The engine for an unpacked archive, its model passed through `check`; sets this process's threads.

    Raises LoadError.
    """
    _prepare_process(choice.device, card.threads)
    model = load(folder / MODEL_FOLDER, device=choice.device, dtype=card.dtype)
    check(model)
    return Engine(model, card, choice.device)


def _prepare_process(device: str, threads: int) -> None:
    import torch

    # The tokenizers library starts a thread a core by itself; several workers would fight over the cores.
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if threads > 1 else "false")
    if device == "cpu":
        torch.set_num_threads(threads)
    else:
        # Pinned memory belongs to the current device: left at the first, every worker would take some there.
        torch.cuda.set_device(torch.device(device))


def _reference_tokens(model: LoadedModel) -> list[list[int]]:
    """The ids sentence-transformers' own tokenizing makes of the probes, one by one."""
    expected = []
    for probe in _PROBES:
        features = model.transformer.tokenize([probe])
        if "token_type_ids" in features and features["token_type_ids"].any():
            raise LoadError("the tokenizer marks its tokens with types (token_type_ids); not served by this kit")
        expected.append(features["input_ids"][0].tolist())
    return expected
