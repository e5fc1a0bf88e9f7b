"""Were the answers right: a sample of them, kept during the run, compared with reference vectors after it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from ops.bench.load import Load
from ops.probe import MIN_COSINE


@dataclass(frozen=True)
class Truth:
    """`wrong` of the `checked` answers were no vector, or one with a cosine below `bar` to plain float32
    sentence-transformers'; `worst_text` is the beginning of the one that was furthest off.
    """

    checked: int
    wrong: int
    min_cosine: float | None
    bar: float
    worst_text: str


class Sample:
    """Texts and the answers they got."""

    def __init__(self) -> None:
        self._answers: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def texts(self) -> list[str]:
        return list(self._answers)

    def keep(self, load: Load, texts: Sequence[str]) -> None:
        """Add what a phase has kept."""
        self._answers |= {texts[index]: body for index, body in load.bodies.items()}

    def check(self, references: Mapping[str, Sequence[float]]) -> Truth:
        """Compare every answer with the reference vector of its text."""
        cosines = {text: cosine(vector_of(body), references[text]) for text, body in self._answers.items()}
        worst = min(cosines, key=lambda text: cosines[text], default="")
        return Truth(
            checked=len(cosines),
            wrong=sum(not cosine >= MIN_COSINE for cosine in cosines.values()),  # not "<": a NaN is wrong
            min_cosine=cosines[worst] if cosines else None,
            bar=MIN_COSINE,
            worst_text=worst[:80],
        )


def stride(texts: int, kept: int) -> int:
    """Each how-manieth answer is kept, for some `kept` of them in all: an odd number, as languages take turns."""
    return max(1, texts // kept) | 1


def vector_of(body: bytes) -> NDArray[np.float64] | None:
    """The one vector of an answer, as numbers or in base64; None where it holds none."""
    try:
        given = orjson.loads(body)["data"][0]["embedding"]
        if isinstance(given, str):
            given = np.frombuffer(base64.b64decode(given, validate=True), dtype="<f4")
        found = np.asarray(given, dtype=np.float64)
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, ValueError):
        return None
    return found if found.ndim == 1 and found.size else None


def cosine(served: NDArray[np.float64] | None, reference: Sequence[float]) -> float:
    """Of the angle between the two; -1 for what cannot be compared."""
    wanted = np.asarray(reference, dtype=np.float64)
    if served is None or served.shape != wanted.shape:
        return -1.0
    length = float(np.linalg.norm(served) * np.linalg.norm(wanted))
    return float(served @ wanted) / length if length else -1.0
