"""The reference an archive carries: some texts and plain sentence-transformers' float32 vectors of them.

Written when backend and dtype were chosen (archives/resolve.py). At load the choice is not made again, only held
against it, so that two workers or two nodes never differ in what they serve.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from .encoding import Vectors
from .loading import LoadError

REFERENCE_NAME = "embedkit-reference.json"

# A longer text may take a minute where a model reads thousands of tokens; its shape was checked at packing.
_MOST_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Reference:
    """Texts, their vectors (n, dimensions) of length 1, and the least cosine with them that may be served."""

    texts: list[str]
    vectors: Vectors
    least_cosine: float

    def to_json(self) -> bytes:
        """As the archive carries it: the vectors as base64 of little-endian float32, row by row."""
        encoded = [base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii") for vector in self.vectors]
        about = {"texts": self.texts, "vectors": encoded, "least_cosine": self.least_cosine}
        return orjson.dumps(about, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def read(cls, path: Path) -> "Reference | None":
        """The reference in this file, None where there is none.

        Raises LoadError for a file that is not one.
        """
        try:
            about: dict[str, Any] = orjson.loads(path.read_bytes())
            vectors = np.stack([np.frombuffer(base64.b64decode(each), dtype="<f4") for each in about["vectors"]])
            return cls(about["texts"], vectors.astype(np.float32), float(about["least_cosine"]))
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise LoadError(f"{path}: not a reference ({error}); pack the model again") from error


def least_cosine(ours: Vectors, theirs: Vectors) -> float:
    """The smallest cosine between rows of two (n, dimensions) arrays; NaN where one is not finite."""
    one, other = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


def check_parity(reference: Reference, embed: Callable[[Sequence[str]], Vectors]) -> float:
    """The least cosine of what `embed` gives here with the reference.

    Raises LoadError where it lies below the reference's bar.
    """
    short = [index for index, text in enumerate(reference.texts) if len(text) <= _MOST_CHARACTERS]
    cosine = least_cosine(embed([reference.texts[index] for index in short]), reference.vectors[short])
    if not cosine >= reference.least_cosine:  # not "<": a NaN fails
        raise LoadError(
            f"its vectors are not the model's on this machine: cosine {cosine:.6f} with float32, "
            f"{reference.least_cosine} has to be reached; pack the model again on such a machine"
        )
    return cosine
