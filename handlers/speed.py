"""How fast this machine computes a model, measured when it is loaded: what a request takes is told from it.

Measured once for a kind of processor and an archive, and kept in the folder that EMBEDKIT_SPEED_DIR names, so that the
limit of a request is the same after every start. A later start looks at short texts alone, and measures anew where they
are far faster than what is kept: that came from a machine with too much else to do, and would refuse what can be
answered.
Without the folder nothing is measured.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from .batching import plan
from .encoding import Vectors
from .shapes import Shapes
from .tokenizing import BatchTokenizer

log = logging.getLogger("embedkit")

FOLDER_VARIABLE = "EMBEDKIT_SPEED_DIR"
_SHORT, _SHORT_TOKENS = 64, 512
# A pass is begun only where it will be over by then; what can be is repeated, and the best counts.
_MOST_S = 1.5
_LEAST_S = 0.1
_TIMES, _TIMES_S = 3, 0.5
FASTER = 2.0
# Twice as many tokens take twice the time, and more where attention is most of it.
_DOUBLED = 3.0
_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Speed:
    """What computing costs here: a token in a row of up to 64 takes `seconds_a_token`, and `seconds_a_token_more` for
    each token that the row is wider, since attention looks at all of it; tokenizing, `seconds_a_character`.

    Raises ValueError for what is no speed.
    """

    seconds_a_token: float
    seconds_a_token_more: float
    seconds_a_character: float

    def __post_init__(self) -> None:
        if not (self.seconds_a_token > 0 and self.seconds_a_token_more >= 0 and self.seconds_a_character > 0):
            raise ValueError(f"{self}: no speed")

    def scaled(self, factor: float) -> "Speed":
        """The same, where computing takes `factor` of the time."""
        return Speed(self.seconds_a_token * factor, self.seconds_a_token_more * factor, self.seconds_a_character)

    def a_token(self, width: int) -> float:
        """Seconds that a token takes in a row so wide."""
        return self.seconds_a_token + max(0, width - _SHORT) * self.seconds_a_token_more

    def computing(self, lengths: Sequence[int], shapes: Shapes) -> float:
        """Seconds that texts of these tokens take in passes of these shapes, padding and dummy rows included."""
        read = [length for length in lengths if length]  # a text without any token is refused later, by its place
        return sum(chunk.padded_tokens * self.a_token(chunk.width) for chunk in plan(read, shapes))


def a_token(
    embed: Callable[[list[list[int]]], Vectors],
    tokenizer: BatchTokenizer,
    shapes: Shapes,
    clock: Callable[[], float],
    width: int = 0,
) -> tuple[float, float]:
    """Seconds of a computed token of one text so wide, or of short texts together, and those on the wall of the first
    time, which prepares for the shape.
    """
    short = min(_SHORT, shapes.longest)
    batch = [tokenizer.some_ids(width)] if width else [tokenizer.some_ids(short)] * (_SHORT_TOKENS // short)
    tokens = sum(chunk.padded_tokens for chunk in plan([len(each) for each in batch], shapes))
    best, first = _best(lambda: embed(batch), clock)
    return best / tokens, first


def measured(
    embed: Callable[[list[list[int]]], Vectors],
    tokenizer: BatchTokenizer,
    shapes: Shapes,
    clock: Callable[[], float],
) -> Speed:
    """Measure now, by a clock in seconds: short texts together, then one text as long as it can be within the time."""
    started = time.monotonic()
    short = width = min(_SHORT, shapes.longest)
    of_short, took = a_token(embed, tokenizer, shapes, clock)
    of_long = of_short
    while width < shapes.longest and time.monotonic() - started + _DOUBLED * took < _MOST_S:
        width = min(2 * width, shapes.longest)
        of_long, took = a_token(embed, tokenizer, shapes, clock, width)
    texts = tokenizer.some_texts(_CHARACTERS)
    of_text, _ = _best(lambda: tokenizer.encode_texts(texts), clock)
    return Speed(
        seconds_a_token=of_short,
        seconds_a_token_more=max(0.0, of_long - of_short) / max(1, width - short),
        seconds_a_character=of_text / tokenizer.characters(texts),
    )


def known(
    folder: Path, name: str, of: Mapping[str, object], measure: Callable[[], Speed], glance: Callable[[], float]
) -> Speed:
    """The speed that is kept in the folder as that of these circumstances; else, and where `glance`, the seconds of a
    token of short texts now, is half of it or less, measured now and kept.

    Workers that measure at once agree on what the first of them has kept.
    """
    file = folder / f"{name}.json"
    found = _read(file, of)
    if found is None or glance() * FASTER < found.seconds_a_token:
        speed, now = measure(), _read(file, of)
        if now is not None and now != found:
            return now  # another worker's, meanwhile
        found = speed
        _write(file, orjson.dumps({"of": of, "speed": speed}, option=orjson.OPT_INDENT_2))
    return found


def speed_folder() -> Path | None:
    """The folder the environment names; None where nothing is to be measured."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else None


def _best(work: Callable[[], object], clock: Callable[[], float]) -> tuple[float, float]:
    """Seconds of the best of several times by the clock, and of the first on the wall."""
    begun = time.monotonic()
    best, first = float("inf"), 0.0
    times = 0
    while not first or (passed := time.monotonic() - begun) < _LEAST_S or (times < _TIMES and passed < _TIMES_S):
        times += 1
        started = clock()
        work()
        best = min(best, clock() - started)
        first = first or time.monotonic() - begun
    return best, first


def _read(file: Path, of: Mapping[str, object]) -> Speed | None:
    try:
        kept = orjson.loads(file.read_bytes())
        return Speed(**kept["speed"]) if kept["of"] == of else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("embedkit: %s cannot be used (%s): measured anew", file, error)
        return None


def _write(file: Path, content: bytes) -> None:
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(file)
    except OSError as error:
        log.warning("embedkit: the speed measured is not kept in %s: %s", file, error)
