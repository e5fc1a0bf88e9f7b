"""What a request may cost, so that whatever is accepted can be answered before TorchServe ends the worker.

TorchServe ends a worker that has not answered its batch within responseTimeout. Of that time a request may take half,
and no step of a batch is begun after three quarters: the rest is for the step that was begun last and for the answer.
Where the longest text alone takes more than that rest, as much is kept for it, down to a quarter.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .card import ServingCard
from .deadline import Deadline
from .engine import Engine
from .errors import TooLargeError
from .processor import name as processor_name
from .shapes import Shapes
from .speed import FASTER, Speed, known, speed_folder

log = logging.getLogger("embedkit")

_REQUEST, _BATCH, _LEAST, _PASS = 1 / 2, 3 / 4, 1 / 4, 1 / 16
# Texts of several requests are computed together up to this part of what one request may take: were it all, a short
# text would wait for the longest that can come with it.
TOGETHER = 1 / 4
# Computed tokens, at most, for each of a text: the rest is padding and dummy rows.
_MOST_PADDING = 8


@dataclass(frozen=True, slots=True)
class Admission:
    """The limits of one worker. `most_tokens` is the card's; `longest` what the model reads of a text; `budget` the
    tokens of a pass; without a `speed`, the card's limit alone holds.
    """

    timeout_s: float
    most_tokens: int
    longest: int
    budget: int
    speed: Speed | None

    def deadline(self) -> Deadline:
        """When a batch that has come now is to be answered with what is done."""
        return Deadline.after(max(self.timeout_s * _LEAST, min(self.timeout_s * _BATCH, self.timeout_s - self._text_s)))

    @property
    def pass_tokens(self) -> int | None:
        """The most tokens of a pass that is over soon after it was begun; None where that is not known."""
        if self.speed is None:
            return None
        return max(1, int(self.timeout_s * _PASS / self.speed.a_token(self.longest)))

    @property
    def request_tokens(self) -> int:
        """The most tokens of a request of texts as long as the model reads; one such text at least."""
        if self.speed is None:
            return self.most_tokens
        in_time = int(self._request_s / self.speed.a_token(self.longest))
        return min(self.most_tokens, max(self.longest, in_time))

    @property
    def one_text_fits(self) -> bool:
        """Whether the longest text alone can be computed in time."""
        return self._text_s <= self._request_s

    def if_faster(self, seconds_a_token: float) -> "Admission":
        """The limits where short texts take so long now, if that is far less than what was measured."""
        if self.speed is None or seconds_a_token * FASTER > self.speed.seconds_a_token:
            return self
        return replace(self, speed=self.speed.scaled(seconds_a_token / self.speed.seconds_a_token))

    def share(self, lengths: Sequence[int]) -> float:
        """About which part of what one request may cost computing these texts takes; where that is not known, of 16
        passes.
        """
        if self.speed is None:
            return sum(lengths) / (16 * self.budget)
        return sum(length * self.speed.a_token(length) for length in lengths) / self._request_s

    def check(self, lengths: Sequence[int], texts: int, characters: int, shapes: Shapes) -> None:
        """Whether a request of so many texts can be answered in time. `lengths` are the tokens of the first of them, or
        of all, or, before anything is tokenized, none; `characters` are those that are tokenized. A request of one text
        always can.

        Raises TooLargeError, with what it takes, the limit and how many such texts fit.
        """
        if self.speed is None or texts == 1:
            return
        known = len(lengths) or texts
        tokenizing = characters * known / texts * self.speed.seconds_a_character
        tokens = sum(lengths)
        if tokenizing + tokens * _MOST_PADDING * self.speed.a_token(max(lengths, default=0)) <= self._request_s:
            return
        computing = self.speed.computing(lengths, shapes) if lengths else 0.0
        if tokenizing + computing <= self._request_s:
            return
        if lengths:
            size, speed = f"{tokens} tokens", f"{tokens / computing:.0f} tokens"
            raise self._refusal(texts, known, size, speed, tokenizing + computing, code="too_many_tokens")
        size, speed = f"{characters} characters", f"{characters / tokenizing:.0f} characters"
        raise self._refusal(texts, known, size, speed, tokenizing, code="too_many_characters")

    def _refusal(self, texts: int, known: int, size: str, speed: str, needed: float, *, code: str) -> TooLargeError:
        fit = max(1, int(known * self._request_s / needed))
        whose = "which" if known == texts else f"of which the first {known}"
        return TooLargeError(
            f"'input' has {texts} texts, {whose} have {size} together: some {needed:.0f} s at the {speed} a second "
            f"that this worker was measured at; a request may take {self._request_s:g} s, half of response_timeout_s: "
            f"send about {fit} such {'text' if fit == 1 else 'texts'} in a request",
            param="input",
            code=code,
        )

    @property
    def _text_s(self) -> float:
        """Seconds of the longest text, alone in its pass; 0 where that is not known."""
        return 0.0 if self.speed is None else self.longest * self.speed.a_token(self.longest)

    @property
    def _request_s(self) -> float:
        return self.timeout_s * _REQUEST


def admission_for(card: ServingCard, engine: Engine, device: str, timeout_s: float) -> Admission:
    """The limits on this machine, where batches have so many seconds; the engine's passes are made to fit them."""
    speed, folder = None, speed_folder()
    if folder is not None:
        circumstances = {
            "processor": processor_name(),
            "device": device,
            "fingerprint": card.fingerprint,
            "code": __package__,
            "threads": card.threads,
            "token_budget": card.token_budget,
            "max_tokens": engine.max_tokens,
        }
        speed = known(folder, f"{card.model}-{card.version}", circumstances, engine.speed, engine.seconds_a_token)
    admission = Admission(timeout_s, card.max_request_tokens, engine.max_tokens, engine.shapes.budget, speed)
    if admission.pass_tokens is not None:
        engine.limit_pass(admission.pass_tokens)
    if not admission.one_text_fits:
        log.warning(
            "embedkit: a text of %d tokens takes longer here than half of response_timeout_s = %g, after which "
            "TorchServe ends the worker: raise it in models.toml",
            *(engine.max_tokens, timeout_s),
        )
    return admission
