"""What a worker tells the outside: a file about itself, and metrics of each stage.

Both lie in the folder that EMBEDKIT_TELEMETRY_DIR names; without it nothing is written. Metrics are
prometheus_client's multiprocess files, read by the exporter in another process: a fraction of a microsecond an
observation, no thread, no port. Nothing here may fail a request or a load: a full disk costs the metrics.
"""

import logging
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from .items import Item

log = logging.getLogger("embedkit")

FOLDER_VARIABLE = "EMBEDKIT_TELEMETRY_DIR"
Stage = Literal["decode", "tokenize", "forward", "encode"]
STAGES: tuple[Stage, ...] = ("decode", "tokenize", "forward", "encode")

# A quantile is some place in the right bucket: neighbours a factor of 1.1 apart from 1 ms to 10 s keep it within 10 %.
# What is shorter or longer than that is told by a factor of 2.
STAGE_SECONDS = [float(f"{bound:.4g}") for bound in (
    *(1e-3 / 2**step for step in range(6, 0, -1)), *(1e-3 * 1.1**step for step in range(98)), 20.0, 40.0, 80.0
)]  # fmt: skip
_COUNTS = [2.0**step for step in range(17)]
# The metric files are memory maps: room that is missing on the disk would be met as a SIGBUS.
_FILE_BYTES = 256 * 1024
_FILES = ("histogram", "counter", "gauge_mostrecent")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """What `worker-<pid>.json` says; `device` as torch spells it, `loaded_at` in Unix seconds; `max_request_tokens` for
    texts as long as the model reads (handlers/admission.py).
    """

    pid: int
    model: str
    version: str
    device: str
    device_name: str
    backend: str = "torch"
    dtype: str
    decision: str = ""
    fingerprint: str
    loaded_at: float
    dimensions: int
    max_tokens: int
    max_request_tokens: int = 0
    reason: str

    def public(self) -> dict[str, object]:
        """What may be told to any client: TorchServe passes a forged `describe` header on."""
        names = ("model", "version", "fingerprint", "dimensions", "max_tokens", "max_request_tokens")
        return {name: getattr(self, name) for name in names}


class Telemetry:
    """A worker's measurements; every method does nothing where telemetry is off or has failed."""

    def __init__(self, facts: WorkerFacts, folder: Path | None) -> None:
        self._folder = folder
        self._metrics: _Metrics | None = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _tell(folder, facts)
            self._metrics = _Metrics(folder, facts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model serves without metrics
            log.warning("embedkit: no telemetry in %s: %s", folder, error)

    def stage(self, stage: Stage, items: Sequence[Item]) -> "_Timed":
        """Measures a `with` block as one stage of one batch, unless all its items turn out to be canaries."""
        return _Timed(self, stage, items)

    def batch(self, *, texts: int, tokens: int, padded: int, truncated: int) -> None:
        """One computed batch: its texts, its real tokens, those computed with padding, and how many texts were cut."""
        if texts:
            self.record(lambda metrics: metrics.batch(texts, tokens, padded, truncated))

    def answered(self, seconds: float) -> None:
        """A batch with at least one vector in it was answered, `seconds` after it came."""
        self.record(lambda metrics: metrics.answered(seconds))

    def at_work(self, *, canaries: bool = False) -> None:
        """A batch has come; or it has turned out to hold canaries alone."""
        self.record(lambda metrics: metrics.at_work(canaries))

    def idle(self) -> None:
        """The batch is done."""
        self.record(lambda metrics: metrics.idle())

    def tell(self, facts: WorkerFacts) -> None:
        """What the worker is has changed."""
        if self._folder is not None:
            try:
                _tell(self._folder, facts)
            except OSError as error:
                log.warning("embedkit: what the worker is now is not told in %s: %s", self._folder, error)

    def record(self, observe: "Callable[[_Metrics], None]") -> None:
        """Lets it measure; what it raises ends the measuring."""
        if self._metrics is None:
            return
        try:
            observe(self._metrics)
        except Exception as error:  # noqa: BLE001 - see above
            self._metrics = None
            log.warning("embedkit: telemetry is off from here: %s", error)


class _Timed:
    """A `with` block that is measured if it ends well; a generator would take twice the time of its measuring."""

    __slots__ = ("_items", "_stage", "_start", "_telemetry")

    def __init__(self, telemetry: Telemetry, stage: Stage, items: Sequence[Item]) -> None:
        self._telemetry, self._stage, self._items = telemetry, stage, items

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        seconds = time.perf_counter() - self._start
        if kind is None and not all(item.canary for item in self._items):
            self._telemetry.record(lambda metrics: metrics.stages[self._stage](seconds))


def _tell(folder: Path, facts: WorkerFacts) -> None:
    _write_atomically(folder / f"worker-{facts.pid}.json", orjson.dumps(facts))


def telemetry_folder() -> Path | None:
    """The folder the environment names, None where telemetry is off."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else None


class _Metrics:
    """The metrics of one model on one device.

    prometheus_client lays out the files and every value in them; what is counted is then added in place. Its own way
    of adding, with a lock and a look at the pid each time, takes three times as long.
    """

    def __init__(self, folder: Path, facts: WorkerFacts) -> None:
        # prometheus_client reads the variable when it is first imported.
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(folder))
        from prometheus_client import Counter, Gauge, Histogram

        multiprocess_folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        for kind in _FILES:
            _reserve(multiprocess_folder / f"{kind}_{facts.pid}.db", _FILE_BYTES)
        by_model = {"model": facts.model}

        def counter(name: str, text: str) -> Any:
            return Counter(name, text, ["model"], registry=None).labels(**by_model)._value

        def gauge(name: str, text: str) -> Any:
            # Of several workers, the one that answered last counts.
            mode: Any = "mostrecent"
            return Gauge(name, text, ["model"], registry=None, multiprocess_mode=mode).labels(**by_model)._value

        def histogram(name: str, text: str) -> Any:
            return Histogram(name, text, ["model"], registry=None, buckets=_COUNTS).labels(**by_model)

        seconds = Histogram(
            "embedding_stage_duration_seconds",
            "Time a worker spends on one stage of one batch.",
            ["model", "device", "stage"],
            registry=None,
            buckets=STAGE_SECONDS,
        )
        stages = {stage: seconds.labels(model=facts.model, device=facts.device, stage=stage) for stage in STAGES}
        batch_texts = histogram("embedding_batch_texts", "Texts computed together in one batch.")
        batch_tokens = histogram("embedding_batch_tokens", "Real tokens computed together in one batch.")
        counters = (
            counter("embedding_texts_total", "Texts embedded."),
            counter("embedding_tokens_total", "Tokens of the texts embedded, without padding."),
            counter("embedding_padded_tokens_total", "Tokens computed, padding and dummy rows included."),
            counter("embedding_truncated_texts_total", "Texts cut to the model's limit."),
        )
        last = (
            gauge("embedding_last_answer_timestamp_seconds", "When the last vector was answered."),
            gauge("embedding_last_answer_latency_seconds", "Time the last answered batch took."),
        )
        # For the watchdog alone. Of users' batches it waits longer than of known short texts.
        begun = Gauge(
            "embedkit_batch_begun_seconds",
            "When the batch in the worker came, by the monotonic clock; 0 between batches.",
            ["model", "of"],
            registry=None,
            multiprocess_mode="mostrecent",
        )
        begun_of = [begun.labels(**by_model, of=of)._value for of in ("users", "canaries")]
        # Every value has its place by now: a file that had to grow later would be mapped anew.
        self.stages = {stage: _observe(child) for stage, child in stages.items()}
        self._batch_texts, self._batch_tokens = _observe(batch_texts), _observe(batch_tokens)
        self._counters, self._counter_at = _place(counters[0])[0], [_place(each)[1] for each in counters]
        self._last, self._last_at = _place(last[0])[0], [_place(each)[1] for each in last]
        self._users_at, self._canaries_at = (_place(each)[1] for each in begun_of)  # in the same file as `last`

    def batch(self, texts: int, tokens: int, padded: int, truncated: int) -> None:
        self._batch_texts(texts)
        self._batch_tokens(tokens)
        cells = self._counters
        for at, more in zip(self._counter_at, (texts, tokens, padded, truncated), strict=True):
            cells[at] += more

    def answered(self, seconds: float) -> None:
        now, cells = time.time(), self._last
        for at, value in zip(self._last_at, (now, seconds), strict=True):
            cells[at], cells[at + 1] = value, now

    def at_work(self, canaries: bool) -> None:
        if canaries:
            self._last[self._canaries_at], self._last[self._users_at] = self._last[self._users_at], 0.0
        else:
            self._last[self._users_at] = time.monotonic()

    def idle(self) -> None:
        self._last[self._users_at] = self._last[self._canaries_at] = 0.0


def _place(value: Any) -> "tuple[memoryview[float], int]":
    """The file of one of prometheus_client's multiprocess values as float64, and the value's index in it.

    A gauge's time follows its value. Goes by the insides of the pinned release; tests read the files its own way.
    """
    file = value._file
    return memoryview(file._m).cast("d"), file._positions[value._key] // 8


def _observe(child: Any) -> Callable[[float], None]:
    """A histogram's `observe`, in place."""
    cells, total = _place(child._sum)
    buckets = [_place(bucket)[1] for bucket in child._buckets]
    bounds = child._upper_bounds

    def observe(value: float) -> None:
        cells[buckets[bisect_left(bounds, value)]] += 1
        cells[total] += value

    return observe


def _reserve(path: Path, size: int) -> None:
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _write_atomically(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
