"""Seeded texts that never repeat: what is measured must not be answered from any cache.

Half of them are Chinese, half English, in turn. Their length is counted in characters (Chinese, punctuation
included) or words (English).
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ops.bench import words
from ops.errors import OpsError

Profile = Literal["short", "passages", "mixed", "long"]

# A text that was there already is drawn again, this often; a profile of four characters alone could run dry.
_TRIES = 1000


@dataclass(frozen=True)
class Lengths:
    """How long a profile's texts are, in units: log-normal around `median`, or uniform where `spread` is 0."""

    shortest: int
    longest: int
    median: float = 0.0
    spread: float = 0.0
    meaning: str = ""

    def draw(self, rng: random.Random) -> int:
        if not self.spread:
            return rng.randint(self.shortest, self.longest)
        drawn = round(self.median * rng.lognormvariate(0.0, self.spread))
        return min(self.longest, max(self.shortest, drawn))


PROFILES: dict[Profile, Lengths] = {
    "short": Lengths(4, 24, meaning="queries of 4 to 24 characters or words"),
    "passages": Lengths(40, 300, 110, 0.35, meaning="passages of 40 to 300 characters or words, mostly near 110"),
    "mixed": Lengths(
        4, 640, 40, 1.0, meaning="4 to 640 characters or words, half below 40, a thirtieth beyond 256, a few beyond 512"
    ),
    "long": Lengths(
        600, 700, meaning="600 to 700 characters or words: a model that reads 512 tokens reads all of them"
    ),
}


class Texts:
    """One run's texts. The same seed gives the same texts, as long as they are taken in the same order."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._rngs = {profile: random.Random(f"{seed} {profile}") for profile in PROFILES}  # noqa: S311 - no secret
        self._seen: set[str] = set()

    def __len__(self) -> int:
        """How many were given out so far, over all profiles; all of them differ."""
        return len(self._seen)

    def take(self, profile: Profile, count: int) -> list[str]:
        """The next `count` texts, none of which was given out before.

        Raises:
            OpsError: the profile has no more that differ.
        """
        return [self._new(profile, chinese=index % 2 == 0) for index in range(count)]

    def _new(self, profile: Profile, *, chinese: bool) -> str:
        rng = self._rngs[profile]
        for _ in range(_TRIES):
            length = PROFILES[profile].draw(rng)
            text = _chinese(rng, length) if chinese else _english(rng, length)
            if text not in self._seen:
                self._seen.add(text)
                return text
        raise OpsError(
            f"no more {profile} texts that differ after {len(self._seen)}: run the benchmark shorter, or with --profile"
        )


def _pick(rng: random.Random, *lists: list[str]) -> Iterator[str]:
    return (rng.choice(each) for each in lists)


def _phrase(rng: random.Random) -> list[str]:
    """Some words of an English sentence; a number or a name now and then."""
    match rng.randrange(8):
        case 0:
            return ["in", str(rng.randint(1500, 2030))]
        case 1:
            return [*_pick(rng, words.LINKS, words.NAMES)]
        case 2:
            return [rng.choice(words.LINKS), f"{rng.uniform(0.1, 99):.1f}%", "of", "the", rng.choice(words.NOUNS)]
        case 3:
            return ["the", *_pick(rng, words.NOUNS, words.VERBS, words.NOUNS)]
        case _:
            return ["the", *_pick(rng, words.ADJECTIVES, words.NOUNS, words.VERBS), "a", rng.choice(words.NOUNS)]


def _phrase_zh(rng: random.Random) -> list[str]:
    match rng.randrange(8):
        case 0:
            return [f"{rng.randint(1500, 2030)}年"]
        case 1:
            return [*_pick(rng, words.ZH_LINKS, words.ZH_NAMES)]
        case 2:
            return [f"{rng.randint(2, 98)}%的", *_pick(rng, words.ZH_NOUNS, words.ZH_VERBS, words.ZH_NOUNS)]
        case _:
            return [*_pick(rng, words.ZH_NOUNS, words.ZH_VERBS, words.ZH_ADJECTIVES, words.ZH_NOUNS)]


def _flow(rng: random.Random, opening: str, phrase: Callable[[random.Random], list[str]]) -> Iterator[tuple[str, str]]:
    """Endless (word, punctuation behind it or "")."""
    yield opening, ""
    while True:
        for phrases_left in range(rng.randint(1, 4), 0, -1):
            *body, last = phrase(rng)
            yield from ((word, "") for word in body)
            yield last, "." if phrases_left == 1 else rng.choice(["", ","])


def _english(rng: random.Random, length: int) -> str:
    """Exactly `length` words, punctuation sticking to them."""
    flow = _flow(rng, rng.choice(words.QUESTIONS), _phrase)
    pairs = [next(flow) for _ in range(length)]
    text = " ".join(f"{word}{mark}" for word, mark in pairs).rstrip(".,")
    return text if length < PROFILES["short"].longest else f"{text[0].upper()}{text[1:]}."


def _chinese(rng: random.Random, length: int) -> str:
    """Exactly `length` characters."""
    marks = {"": "", ",": "，", ".": "。"}
    pieces: list[str] = []
    size = 0
    for word, mark in _flow(rng, rng.choice(words.ZH_QUESTIONS), _phrase_zh):
        pieces.append(word + marks[mark])
        size += len(pieces[-1])
        if size >= length:
            break
    return "".join(pieces)[:length]
