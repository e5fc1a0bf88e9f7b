"""A served model in one worker: card and folder → something that tokenizes and embeds.

Knows nothing of TorchServe or of requests.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from .card import ServingCard
from .deadline import NEVER, Deadline
from .devices import Choice
from .encoding import Vectors
from .invariance import check_invariance
from .loading import LoadedModel, LoadError, load
from .openvino_backend import CONVERTED, OpenVinoEmbedder
from .outline import load_outline
from .parity import REFERENCE_NAME, Reference, check_parity
from .shapes import Shapes, shapes_for
from .speed import Speed, a_token, measured
from .tokenizing import BatchTokenizer, Tokens

log = logging.getLogger("embedkit")

MODEL_FOLDER = "model"

_PROBES = ["a", "  How are vectors made?\t", "教练, 我想打篮球.", "MIXED case, 1,234.5 £ and 😀 naïve"]
_WARM_UP = ["How are vectors made?", "教练, 我想打篮球. " * 8]
# Short texts are what people wait for: the shapes that most batches of them come to are computed before the first.
_WARM_LENGTHS = range(16, 97, 16)
_GPU_WARM_LENGTHS = range(4, 65, 4)
_WARM_TEXTS = range(8, 65, 8)


class Embedder(Protocol):
    """What a backend makes of a model; `embed` gives L2-normalised float32 vectors (n, dimensions) in order, or raises
    PartlyComputedError where the deadline passes before the last pass is begun.

    `computed_tokens` is how many tokens all its passes had so far, padding and dummy rows included.
    """

    dimensions: int
    computed_tokens: int
    shapes: Shapes

    def embed(self, ids: Sequence[Sequence[int]], deadline: Deadline = NEVER) -> Vectors: ...


class Engine:
    """The loaded model with its tokenizer. `max_tokens` is what it reads of a text, special tokens included."""

    def __init__(self, model: LoadedModel, embedder: Embedder, card: ServingCard, *, on_gpu: bool) -> None:
        self.max_tokens = limit_of(model, card)
        self.dimensions = embedder.dimensions
        self.vocabulary = model.vocabulary
        self.unembedded = model.unembedded
        self.notes = model.notes
        expected = _reference_tokens(model)
        try:
            self.tokenizer = BatchTokenizer(model.tokenizer, max_tokens=self.max_tokens, lower_case=model.lower_case)
        except ValueError as error:
            raise LoadError(f"{error}; raise max_tokens in models.toml") from error
        for wanted, got in zip(expected, self.tokenizer.encode_texts(_PROBES), strict=True):
            if odd := [number for number in got.ids if number in self.unembedded]:
                raise LoadError(
                    f"the tokenizer puts {self.unembedded[odd[0]]!r} (id {odd[0]}) into every text, and the embeddings "
                    f"have {self.vocabulary} rows: get the model again, or save it with as many"
                )
            if wanted != got.ids and not got.truncated:
                raise LoadError("the tokenizer gives other ids than sentence-transformers' tokenizing; not served")
        self._embedder = embedder
        self._card = card
        self._on_gpu = on_gpu

    def embed(self, batch: Sequence[Tokens], deadline: Deadline = NEVER) -> Vectors:
        """L2-normalised float32 vectors (n, dimensions), in order.

        Raises PartlyComputedError where the deadline passes before the last pass is begun.
        """
        return self._embedder.embed([tokens.ids for tokens in batch], deadline)

    @property
    def computed_tokens(self) -> int:
        """Tokens computed since the load, padding and dummy rows included."""
        return self._embedder.computed_tokens

    @property
    def shapes(self) -> Shapes:
        """The shapes of the passes."""
        return self._embedder.shapes

    def speed(self) -> Speed:
        """How fast this computes and tokenizes: takes a second or two.

        By processor time where one thread does all of it, so that what else the machine does just now is not measured.
        """
        return measured(self._embedder.embed, self.tokenizer, self.shapes, self._clock)

    def seconds_a_token(self) -> float:
        """The same of short texts alone: takes a tenth of a second or so."""
        return a_token(self._embedder.embed, self.tokenizer, self.shapes, self._clock)[0]

    @property
    def _clock(self) -> Callable[[], float]:
        return time.process_time if self._card.threads == 1 and not self._on_gpu else time.monotonic

    def limit_pass(self, tokens: int) -> None:
        """Lets no pass of more than one text have more tokens than that. Where a text's vector is to have the same bits
        in any company, passes are small as they are, and stay.
        """
        shapes = self._embedder.shapes
        if not shapes.uniform:
            self._embedder.shapes = replace(shapes, budget=max(1, min(shapes.budget, tokens)))

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """The same for texts."""
        return self.embed(self.tokenizer.encode_texts(texts))

    def warm_up(self) -> None:
        """Computes before the first request does: kernels are chosen and memory is taken now.

        On a GPU the largest pass that can come is tried too, so that a model that does not fit fails at load.
        Raises LoadError where the vectors are not finite, or a batch-invariant model is not that here.
        """
        batch = self.tokenizer.encode_texts(_WARM_UP)
        vectors = self.embed(batch)
        if not np.isfinite(vectors).all():
            raise LoadError("the model gives vectors that are not finite; try dtype = 'float32' in models.toml")
        long = (batch[0].ids * self.max_tokens)[: self.max_tokens]
        if self._card.backend == "openvino" or self._on_gpu:  # both prepare something for each new shape
            for length in _GPU_WARM_LENGTHS if self._on_gpu else _WARM_LENGTHS:
                self._embedder.embed([long[:length]])
            for count in _WARM_TEXTS:
                self._embedder.embed([long[:16]] * count)
        if self._on_gpu:
            count = max(1, self._card.token_budget // self.max_tokens)
            self._embedder.embed([long] * count)
        if self._card.batch_invariant:
            tried, widths = check_invariance(self._embedder.embed, long, self.shapes)
            log.info("embedkit: batch_invariant: the same bits at %d of %d widths, from the longest on", tried, widths)


def limit_of(model: LoadedModel, card: ServingCard) -> int:
    """The most tokens a text may have, special tokens included. Raises LoadError where nothing says."""
    limits = [limit for limit in (model.max_tokens, card.max_tokens) if limit is not None]
    if not limits:
        raise LoadError("the model folder names no max_seq_length; set max_tokens in models.toml")
    return min(limits)


def load_engine(card: ServingCard, folder: Path, choice: Choice, *, check: Callable[[LoadedModel], None]) -> Engine:
    """The engine for an unpacked archive, its model passed through `check`; sets this process's threads.

    Raises LoadError, also where the archive's own reference vectors are not reached here.
    """
    _prepare_process(choice.device, card.threads)
    model, embedder = (_by_openvino if card.backend == "openvino" else _by_torch)(card, folder, choice, check)
    engine = Engine(model, embedder, card, on_gpu=choice.device.startswith("cuda"))
    reference = Reference.read(folder / REFERENCE_NAME)
    if reference is not None:
        check_parity(reference, engine.embed_texts)
    return engine


def _by_torch(
    card: ServingCard, folder: Path, choice: Choice, check: Callable[[LoadedModel], None]
) -> tuple[LoadedModel, Embedder]:
    model = load(folder / MODEL_FOLDER, device=choice.device, dtype=card.dtype)
    check(model)
    from .modeling import TorchEmbedder

    return model, TorchEmbedder(
        model, device=choice.device, shapes=_shapes(card, choice.device, model, packs=model.can_pack)
    )


def _by_openvino(
    card: ServingCard, folder: Path, choice: Choice, check: Callable[[LoadedModel], None]
) -> tuple[LoadedModel, Embedder]:
    model = load_outline(folder / MODEL_FOLDER)
    check(model)
    return model, OpenVinoEmbedder(
        folder / CONVERTED,
        model,
        dtype=card.dtype,
        threads=card.threads,
        shapes=lambda packs: _shapes(card, choice.device, model, packs=packs),
    )


def _shapes(card: ServingCard, device: str, model: LoadedModel, *, packs: bool) -> Shapes:
    return shapes_for(
        card.backend,
        device,
        token_budget=card.token_budget,
        longest=limit_of(model, card),
        packs=packs,
        batch_invariant=card.batch_invariant,
    )


def _prepare_process(device: str, threads: int) -> None:
    import torch

    # The tokenizers library starts a thread a core by itself; several workers would fight over the cores.
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    torch.set_num_threads(threads)
    # From Hopper on torch prefers cuDNN's attention, which plans anew for each new shape; ours are new all the time.
    torch.backends.cuda.enable_cudnn_sdp(False)
    if device != "cpu":
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
