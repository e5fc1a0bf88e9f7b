"""The texts of the trials and what is right for them.

Every candidate gets the same texts in the same order: their lengths differ more than candidates do. The service keeps
no answers, so none has an advantage from their having been sent before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ops.bench.children import Children, plain_spec
from ops.bench.load import Load
from ops.bench.texts import Profile, Texts
from ops.bench.truth import stride

# Texts a connection, at least, so that a closed loop is more than its beginning and end.
_A_CONNECTION = 3


class Material:
    """`model` is the model's own folder, for plain sentence-transformers; about `kept` answers a phase are compared."""

    def __init__(self, model: Path, *, profile: Profile, seed: int, kept: int, max_tokens: int, cores: int) -> None:
        self._model, self._profile, self._kept = model, profile, kept
        self._max_tokens, self._cores = max_tokens, cores
        names = ("warm-up", "closed", "open")
        self._source = {name: Texts(10 * seed + number) for number, name in enumerate(names)}
        self._texts: dict[str, list[str]] = {name: [] for name in names}
        self._first: dict[str, int] = {}
        self._closed = 0
        self._references: dict[str, Sequence[float]] = {}

    def take(self, name: str, count: int) -> list[str]:
        """The first `count` texts of "warm-up", "closed" or "open"."""
        texts = self._texts[name]
        if len(texts) < count:
            texts += self._source[name].take(self._profile, count - len(texts))
        return texts[:count]

    def closed_count(self, wanted: float, connections: int) -> int:
        """How many texts the closed loop has: as the first candidate needed, the same for all."""
        if not self._closed:
            self._closed = max(_A_CONNECTION * connections, round(wanted))
        return self._closed

    def every(self, name: str, count: int) -> int:
        """Each how-manieth answer of a phase is kept: as its first run of `count` texts had it."""
        return stride(self._first.setdefault(name, count), self._kept)

    def compared(self, name: str, load: Load) -> Load:
        """The phase with those kept answers alone that its first run had too, so that few references are needed."""
        first = self._first[name]
        return replace(load, bodies={index: body for index, body in load.bodies.items() if index < first})

    def references(self, texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Plain float32 sentence-transformers' vectors; those that were not asked for before are computed now.

        Raises:
            OpsError: that process failed, with its last words.
        """
        if new := [text for text in texts if text not in self._references]:
            spec = plain_spec(
                self._model, threads=self._cores, dtype="float32", max_tokens=self._max_tokens, device="cpu"
            )
            with Children([spec], threads=self._cores) as plain:
                vectors = plain.ask([new], {"do": "vectors"})[0]["vectors"]
            self._references |= dict(zip(new, vectors, strict=True))
        return self._references
