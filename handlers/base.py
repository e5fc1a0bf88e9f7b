"""What every handler of this kit does: TorchServe's initialize → preprocess → inference → postprocess.

All requests of a batch are tokenized and computed together; each gets its own answer or its own error. What
TorchServe does with an exception (a 503 for the whole batch) is therefore never left to it, nor what it does with a
batch that takes too long (it ends the worker): what is cheap comes first, and what there is no time for gets its 503.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson

from . import encoding
from .admission import TOGETHER, admission_for
from .body import decode_body, request_headers
from .canary import is_canary
from .card import CARD_NAME, ServingCard
from .deadline import Deadline, PartlyComputedError
from .devices import choose, look
from .engine import Engine, load_engine
from .errors import InternalError, OverloadedError, RequestError, TooLargeError
from .failures import leave_worker_on_cuda_error
from .isolation import contained, grouped, together_or_apart
from .items import Item
from .loading import LoadedModel
from .memory import Trimmer
from .protocol import EmbeddingRequest, Limits, parse_request
from .quiet import silence_server_lines
from .routes import route
from .telemetry import Telemetry, WorkerFacts, telemetry_folder
from .tokenizing import Tokens, check_tokens

log = logging.getLogger("embedkit")

_JSON = "application/json"
# Beyond that, requests with little text do not wait until all of it is tokenized.
_TOGETHER_CHARACTERS = 1 << 17
_TEXTS_AT_A_TIME = 256
_LOOK_AGAIN_S = 60.0
RESPONSE_TIMEOUT_S = 120  # TorchServe's own, where model-config.yaml names none


class EmbeddingHandler:
    """Serves one sentence-transformers folder; subclasses say what they ask of it.

    `context` is TorchServe's ts.context.Context throughout.
    """

    # Used where the serving card has no prompt of that name.
    default_prompts: ClassVar[Mapping[str, str]] = {}

    card: ServingCard
    engine: Engine
    facts: WorkerFacts

    def check_model(self, model: LoadedModel) -> None:
        """Raises LoadError for a folder that this handler does not serve."""

    def initialize(self, context: Any) -> None:
        """Loads the unpacked archive in `model_dir`, computes once, and says on what.

        Raises CardError, DeviceError or LoadError with what to do; the worker ends with that.
        """
        silence_server_lines()
        started = time.monotonic()
        folder = Path(context.system_properties["model_dir"])
        try:
            self.card = card = ServingCard.read(folder / CARD_NAME)
            choice = choose(card.device, card.dtype, context.system_properties.get("gpu_id"), look(card.device))
            self.engine = load_engine(card, folder, choice, check=self.check_model)
            self.engine.warm_up()
            timeout_s = float((context.model_yaml_config or {}).get("responseTimeout", RESPONSE_TIMEOUT_S))
            self._admission, self._looked_at = admission_for(card, self.engine, choice.name, timeout_s), -inf
        except Exception as error:
            leave_worker_on_cuda_error(error)
            log.error("embedkit: cannot serve %s: %s", context.model_name, error)  # noqa: TRY400 - the worker logs the traceback
            raise
        self.model_name = str(context.model_name or card.model)
        self._trimmer = Trimmer()
        self._limits = Limits(
            max_texts=card.max_texts,
            max_chars=card.max_chars,
            dimensions=self.engine.dimensions,
            vocabulary=self.engine.vocabulary,
            models=tuple(dict.fromkeys((self.model_name, f"{self.model_name}/{card.version}", card.model))),
            prompts={**self.default_prompts, **card.prompts},
        )
        self.facts = WorkerFacts(
            pid=os.getpid(),
            model=self.model_name,
            version=card.version,
            device=choice.device,
            device_name=choice.name,
            backend=card.backend,
            dtype=card.dtype,
            decision=card.decision,
            fingerprint=card.fingerprint,
            loaded_at=time.time(),
            dimensions=self.engine.dimensions,
            max_tokens=self.engine.max_tokens,
            max_request_tokens=self._admission.request_tokens,
            reason=choice.reason,
        )
        self._telemetry = Telemetry(self.facts, telemetry_folder())
        for note in self.engine.notes:
            log.warning("embedkit: %s: %s", self.model_name, note)
        log.info(
            "embedkit: %s on %s (%s): %s; %s; %d dimensions, %d tokens a text, %d a request, loaded in %.1f s",
            *(card.fingerprint, choice.device, choice.name, choice.reason, card.decision or "as the card says"),
            *(self.engine.dimensions, self.engine.max_tokens, self._admission.request_tokens),
            time.monotonic() - started,
        )

    def handle(self, data: Sequence[object], context: Any) -> list[bytes]:
        """The answers to one batch, in order; status and headers go into the context."""
        started = time.monotonic()
        deadline = self._admission.deadline()
        self._telemetry.at_work()
        try:
            items = self.preprocess(data, context, deadline)
            self.inference(items, deadline)
            answers = self.postprocess(items, context)
        finally:
            self._telemetry.idle()
        if any(item.vectors is not None and not item.canary for item in items):
            self._telemetry.answered(time.monotonic() - started)
        self._trimmer.after(sum(map(len, answers)) + sum(item.size for item in items))
        return answers

    def preprocess(self, data: Sequence[object], context: Any, deadline: Deadline) -> list[Item]:
        """TorchServe's rows → checked requests, or errors."""
        items: list[Item] = []
        with self._telemetry.stage("decode", items):
            items += (self._read(index, row, context, deadline) for index, row in enumerate(data))
        if all(item.canary for item in items):
            self._telemetry.at_work(canaries=True)
        return items

    def inference(self, items: Sequence[Item], deadline: Deadline) -> None:
        """One tokenizing and one computation for all the requests that got here, or few where that takes long: then one
        after the other, so that those with little text are done before much of it is read.
        """
        wanted = [item for item in items if item.is_open]
        if not wanted:
            return
        padded_before = self.engine.computed_tokens
        for some in grouped(wanted, lambda item: item.characters, _TOGETHER_CHARACTERS):
            with self._telemetry.stage("tokenize", some):
                together_or_apart(some, self._tokenize, deadline)
            if tokenized := [item for item in some if item.is_open]:
                with self._telemetry.stage("forward", tokenized):
                    for few in grouped(tokenized, self._share, TOGETHER):
                        together_or_apart(few, self._embed, deadline)
        answered = [item for item in wanted if item.vectors is not None]
        computed = [tokens for item in answered if not item.canary for tokens in item.tokens]
        of_canaries = sum(len(tokens.ids) for item in answered if item.canary for tokens in item.tokens)
        self._telemetry.batch(
            texts=len(computed),
            tokens=sum(len(tokens.ids) for tokens in computed),
            padded=self.engine.computed_tokens - padded_before - of_canaries,
            truncated=sum(tokens.truncated for tokens in computed),
        )

    def postprocess(self, items: Sequence[Item], context: Any) -> list[bytes]:
        """Vectors and errors → each request's body, status and headers."""
        with self._telemetry.stage("encode", items):
            for item in items:
                if item.is_open:
                    contained(item, self._encode)
        for index, item in enumerate(items):
            context.set_response_content_type(index, _JSON)
            context.set_response_header(index, "X-Embedkit-Fingerprint", self.card.fingerprint)
            if item.error is not None:
                context.set_response_status(item.error.status, item.error.phrase, index)
                if item.error.retry_after_s is not None:
                    context.set_response_header(index, "Retry-After", str(item.error.retry_after_s))
        return [item.body if item.error is None and item.body is not None else _error_body(item) for item in items]

    def _read(self, index: int, row: object, context: Any, deadline: Deadline) -> Item:
        def read(item: Item) -> None:
            headers = request_headers(context.get_all_request_header(index))
            item.canary = is_canary(headers)
            match route(headers):
                case "describe":
                    item.body = orjson.dumps(self.facts.public())
                case "models":
                    item.body = self._model_list()
                case "embeddings" if deadline.passed:
                    raise OverloadedError
                case "embeddings":
                    value = decode_body(row, headers, max_bytes=self.card.max_body_bytes)
                    item.request = request = parse_request(value, self._limits)
                    encoding.refuse_oversized(
                        len(request),
                        request.dimensions or self.engine.dimensions,
                        request.encoding_format,
                        max_bytes=self.card.max_answer_bytes,
                    )
                    item.characters = self.engine.tokenizer.characters(request.texts)
                    self._admit([], item)

        item = Item()
        contained(item, read)
        return item

    def _share(self, item: Item) -> float:
        return self._admission.share([len(tokens.ids) for tokens in item.tokens])

    def _tokenize(self, items: Sequence[Item], deadline: Deadline) -> None:
        if len(items) == 1 and items[0].characters > _TOGETHER_CHARACTERS:
            contained(items[0], lambda item: self._tokenize_large(item, deadline))
            return
        requests = [item.request for item in items if item.request is not None]
        of_texts = iter(
            self.engine.tokenizer.encode_texts([text for request in requests for text in request.texts], deadline)
        )
        for item, request in zip(items, requests, strict=True):
            tokens = [
                *islice(of_texts, len(request.texts)),
                *self.engine.tokenizer.encode_ids(request.token_ids),
            ]
            try:
                self._check(tokens, request)
                self._admit([len(each.ids) for each in tokens], item)
                item.tokens = tokens
            except RequestError as error:
                item.error = error

    def _tokenize_large(self, item: Item, deadline: Deadline) -> None:
        """Some texts at a time, as a request that is too large is so before all of it is tokenized."""
        assert item.request is not None
        tokens: list[Tokens] = []
        for start in range(0, len(item.request), _TEXTS_AT_A_TIME):
            some = item.request.texts[start : start + _TEXTS_AT_A_TIME]
            tokens += self.engine.tokenizer.encode_texts(some, deadline)
            self._admit([len(each.ids) for each in tokens], item)
        self._check(tokens, item.request)
        item.tokens = tokens

    def _check(self, tokens: Sequence[Tokens], request: EmbeddingRequest) -> None:
        check_tokens(
            tokens,
            limit=self.engine.max_tokens,
            most=self.card.max_request_tokens,
            truncate=request.truncate,
            unembedded=self.engine.unembedded,
        )

    def _admit(self, lengths: Sequence[int], item: Item) -> None:
        """Before a request is refused for its time, the speed is looked at again: it may come from a busier moment."""
        assert item.request is not None
        about = (lengths, len(item.request), item.characters, self.engine.shapes)
        try:
            self._admission.check(*about)
        except TooLargeError:
            if time.monotonic() < self._looked_at + _LOOK_AGAIN_S:
                raise
            self._admission = self._admission.if_faster(self.engine.seconds_a_token())
            self._looked_at = time.monotonic()
            self.facts = replace(self.facts, max_request_tokens=self._admission.request_tokens)
            self._telemetry.tell(self.facts)
            self._admission.check(*about)

    def _embed(self, items: Sequence[Item], deadline: Deadline) -> None:
        batch = [tokens for item in items for tokens in item.tokens]
        try:
            vectors = self.engine.embed(batch, deadline)
            done = np.ones(len(batch), dtype=np.bool_)
        except PartlyComputedError as error:
            vectors, done = error.vectors, error.done
        sound = np.isfinite(vectors)
        start = 0
        for item in items:
            end = start + len(item.tokens)
            if not done[start:end].all():
                item.error = OverloadedError()
            elif sound[start:end].all():
                item.vectors = vectors[start:end]
            else:
                log.error("embedkit: a vector is not finite in %s; float32 would tell more", self.card.dtype)
                item.error = InternalError()
            start = end

    def _encode(self, item: Item) -> None:
        assert item.request is not None
        assert item.vectors is not None
        item.body = encoding.answer(
            encoding.cut(item.vectors, item.request.dimensions),
            item.request.encoding_format,
            model=self.model_name,
            tokens=sum(len(tokens.ids) for tokens in item.tokens),
            max_bytes=self.card.max_answer_bytes,
        )

    def _model_list(self) -> bytes:
        model = {
            "id": self.model_name,
            "object": "model",
            "created": int(self.facts.loaded_at),
            "owned_by": "embedkit",
        }
        return orjson.dumps({"object": "list", "data": [model]})


def _error_body(item: Item) -> bytes:
    return (item.error or InternalError()).body()
