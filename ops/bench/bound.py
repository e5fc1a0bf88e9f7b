"""The bound: how fast the same model computes the same texts in the same precision, with nothing in between.

Each way is tried in fresh processes, over the whole set at once, tokenizing included, sorted by length. The fastest
is the bound: one process with all threads, one process a core, each with the archive's own engine in the batch size
that suits it best; and plain SentenceTransformer.encode, so that a slow engine cannot make a low bound.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from archives.progress import Progress
from env.hardware import Hardware
from handlers.card import ServingCard
from ops.bench.children import Children, engine_spec, plain_spec, with_threads
from ops.bench.contention import QUIET, Contention
from ops.bench.texts import Profile

# Padded tokens a forward pass; None: the whole set handed to the engine, which cuts it by its own budget.
BATCH_TOKENS: tuple[int | None, ...] = (None, 4096, 1024, 384)
# The smaller ones are a long text or two a pass, which leave a GPU idle.
GPU_BATCH_TOKENS: tuple[int | None, ...] = (None, 4096)


@dataclass(frozen=True)
class Way:
    """One way of computing in process."""

    name: str
    kind: str  # "engine" or "plain"
    processes: int
    threads: int


@dataclass(frozen=True)
class Timing:
    """One set of texts computed one way. `tokens` without padding, cut to the model's limit; `others` is the share
    of all cores that other work took meanwhile.
    """

    way: str
    texts: int
    tokens: int
    seconds: float
    batch_tokens: int | None
    others: float = 0.0

    @property
    def texts_per_s(self) -> float:
        return self.texts / self.seconds

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Bound:
    """The best of some ways over the repeats; `ways`: name → median texts a second."""

    way: str
    texts_per_s: float
    tokens_per_s: float
    ways: dict[str, float]


def on_gpu(card: ServingCard, hardware: Hardware) -> bool:
    """Whether this archive computes on a GPU here."""
    return card.device != "cpu" and bool(hardware.gpus)


def ways(card: ServingCard, hardware: Hardware) -> list[Way]:
    """What is tried on this hardware."""
    if on_gpu(card, hardware):
        gpus, cores = len(hardware.gpus), hardware.cores
        return [
            Way("engine, a process a GPU", "engine", gpus, max(1, cores // gpus)),
            Way("engine, two processes a GPU", "engine", 2 * gpus, max(1, cores // (2 * gpus))),
            Way("SentenceTransformer.encode, one process", "plain", 1, cores),
        ]
    found = [Way("engine, one process with all threads", "engine", 1, hardware.cores)]
    if hardware.cores > 1:
        found.append(Way("engine, a process a core", "engine", hardware.cores, 1))
    found.append(Way("SentenceTransformer.encode, one process", "plain", 1, hardware.cores))
    return found


def batch_tokens(card: ServingCard, hardware: Hardware) -> tuple[int | None, ...]:
    """The batch sizes that are tried on this hardware."""
    return GPU_BATCH_TOKENS if on_gpu(card, hardware) else BATCH_TOKENS


def deal(texts: Sequence[str], processes: int) -> list[list[str]]:
    """Shares of equal work: dealt out by falling length, forth and back, so that nobody gets all the longer ones."""
    shares: list[list[str]] = [[] for _ in range(processes)]
    for place, text in enumerate(sorted(texts, key=lambda text: -len(text))):
        turn, seat = divmod(place, processes)
        shares[seat if turn % 2 == 0 else processes - 1 - seat].append(text)
    return shares


def best(timings: Sequence[Timing]) -> Bound:
    """The fastest way by the median of its repeats.

    Raises:
        ValueError: nothing was timed.
    """
    if not timings:
        raise ValueError("nothing was timed")
    names = list(dict.fromkeys(timing.way for timing in timings))
    by_way = {name: median(one.texts_per_s for one in timings if one.way == name) for name in names}
    winner = max(names, key=lambda name: by_way[name])
    tokens = median(one.tokens_per_s for one in timings if one.way == winner)
    return Bound(winner, by_way[winner], tokens, by_way)


@dataclass(frozen=True)
class Material:
    """What is computed with: the unpacked archive, the model's folder with its own weights, the tokens that are read
    of a text.
    """

    unpacked: Path
    model: Path
    card: ServingCard
    hardware: Hardware
    max_tokens: int


@contextlib.contextmanager
def opened(way: Way, material: Material) -> Iterator[Children]:
    """Fresh processes for one way, loaded."""
    card, hardware = material.card, material.hardware
    with contextlib.ExitStack() as stack:
        specs: list[dict[str, Any]]
        if way.kind == "engine":
            folder = stack.enter_context(with_threads(material.unpacked, way.threads))
            gpus = [gpu.index for gpu in hardware.gpus] if on_gpu(card, hardware) else []
            specs = [engine_spec(folder, gpus[number % len(gpus)] if gpus else None) for number in range(way.processes)]
        else:
            device = "cuda" if on_gpu(card, hardware) else "cpu"
            one = plain_spec(
                material.model,
                threads=way.threads,
                dtype=card.dtype,
                max_tokens=material.max_tokens,
                device=device,
            )
            specs = [one] * way.processes
        yield stack.enter_context(Children(specs, threads=way.threads))


def time_once(children: Children, way: Way, texts: Sequence[str], batch_tokens: int | None) -> Timing:
    """All the texts once. For `plain` processes the tokens are not counted (0)."""
    command = {"do": "all", "batch_tokens": batch_tokens}
    answers = children.ask(deal(texts, way.processes), command)
    seconds = max(one["end"] for one in answers) - min(one["start"] for one in answers)
    tokens = sum(one["tokens"] or 0 for one in answers)
    return Timing(way.name, len(texts), tokens, seconds, batch_tokens)


class BoundMeter:
    """Times all ways of one model; remembers which batch size suits which way and kind of text.

    `trial_s` is about how long a batch size is tried; of `passes` over the texts the fastest counts, since a server has
    long met every length of text and a fresh process has not.
    """

    def __init__(self, material: Material, *, trial_s: float, passes: int) -> None:
        self._material = material
        self._trial_s = trial_s
        self._passes = passes
        self._ways = ways(material.card, material.hardware)
        self._batch_tokens: dict[tuple[str, str], int | None] = {}

    def measure(
        self,
        sets: Mapping[Profile, Sequence[str]],
        samples: Mapping[Profile, Sequence[str]],
        contention: Contention,
        progress: Progress,
        into: dict[Profile, list[Timing]] | None = None,
    ) -> dict[Profile, list[Timing]]:
        """Profile → a timing a way. `samples` are other texts of the same profiles, to choose batch sizes with; `into`
        is filled way by way, for a caller whose time may run out.
        """
        timings = {} if into is None else into
        timings |= {profile: [] for profile in sets}
        for way in self._ways:
            with opened(way, self._material) as children:
                for profile, texts in sets.items():
                    chosen = self._chosen(children, way, profile, samples[profile])
                    tried = []
                    for _ in range(self._passes):
                        with contention.watch() as seen:
                            timing = time_once(children, way, texts, chosen)
                        tried.append(replace(timing, others=seen.others))
                    timing = min(tried, key=lambda one: one.seconds)
                    timings[profile].append(timing)
                    others = f" (others took {timing.others:.0%} of the cores)" if timing.others > QUIET else ""
                    progress.say(f"{profile}, {way.name}: {timing.texts_per_s:.0f} texts a second in process{others}")
        return {profile: _with_tokens(found) for profile, found in timings.items()}

    def _chosen(self, children: Children, way: Way, profile: str, sample: Sequence[str]) -> int | None:
        key = (way.name, profile)
        if key not in self._batch_tokens:
            enough = _worth(children, way, sample, self._trial_s)
            options = batch_tokens(self._material.card, self._material.hardware)
            self._batch_tokens[key] = _fastest(children, way, enough, options) if way.kind == "engine" else None
        else:
            _worth(children, way, sample, self._trial_s)
        return self._batch_tokens[key]


def _worth(children: Children, way: Way, sample: Sequence[str], seconds: float) -> Sequence[str]:
    """The part of the sample that takes about so long. Warms up: memory is taken and kernels are chosen now."""
    few = sample[: 8 * way.processes]
    time_once(children, way, few, None)
    rate = time_once(children, way, few, None).texts_per_s
    return sample[: max(len(few), round(rate * seconds))]


def _fastest(children: Children, way: Way, sample: Sequence[str], options: Sequence[int | None]) -> int | None:
    """The batch size that computes the sample fastest; the two best are tried a second time."""
    seconds = {option: time_once(children, way, sample, option).seconds for option in options}
    for option in sorted(seconds, key=lambda option: seconds[option])[:2]:
        seconds[option] = min(seconds[option], time_once(children, way, sample, option).seconds)
    return min(seconds, key=lambda option: seconds[option])


def _with_tokens(timings: list[Timing]) -> list[Timing]:
    """The same texts have the same tokens, whoever computes them."""
    tokens = max(timing.tokens for timing in timings)
    return [replace(one, tokens=tokens) for one in timings]
