"""Lines of TorchServe's access log → requests by model, status and duration. Pure: no file is read here.

A line is `<Unix ms at its end> /<client> "<method> <URI> HTTP/1.1" <status> <ms>`; the URI is as the client sent it.
No client can make a series: models come from the allowlist, codes are HTTP's.
"""

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ops.exporter.buckets import REQUEST_SECONDS
from ops.exporter.clock import ClockWatch
from ops.exporter.families import Families

OTHER = "other"
# There from the start, so that the first failure of a model is an increase and not a new series.
_ALWAYS = (200, 500, 503)

_LINE = re.compile(rb'(\d{10,16}) \S+ "\S+ (\S+) [^"]*" (\d{3}) (-?\d{1,18})')
# /predictions/<model>[/<version>[/…]], /explanations/…, KServe's /v1/models/<model>:predict, /v2/models/<model>/infer
_OF_A_MODEL = re.compile(
    rb"/(?:(?:predictions|explanations|wfpredict)/([^/?]+)"
    rb"|v[12]/models/([^/?:]+)(?::(?:predict|explain)|/(?:versions/[^/?]+/)?(?:infer|explain))"
    rb"|(?:invocations|bad-request)(?=[?/]|$))"
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request for a model: `end_s` is Unix time, `duration_s` what the wall clock made of it, even if negative.

    Without `end_s` the duration was not told by the wall clock, and is sound.
    """

    model: str
    code: int
    end_s: float | None
    duration_s: float


class LineReader:
    """Reads lines with an allowlist of models and the marks that tell in a query: this is not to be counted here."""

    def __init__(self, marks: Collection[bytes]) -> None:
        self._marks = frozenset(marks)
        self._names: dict[bytes, str] = {}
        self.unreadable = 0

    def allow(self, models: Collection[str]) -> None:
        """The models that get a name of their own from here on."""
        if set(self._names.values()) != set(models):
            self._names = {name.encode(): name for name in models}

    def read(self, lines: Iterable[bytes]) -> Iterator[Request]:
        """The requests among the lines that came past the gateway: neither probes of the kit's, nor pings, management
        and metrics."""
        names, marks = self._names, self._marks
        for line in lines:
            match = _LINE.fullmatch(line)
            if match is None:
                self.unreadable += 1
                continue
            end, uri, code, took = match.groups()
            asked = _OF_A_MODEL.match(uri)
            if asked is None or uri.partition(b"?")[2] in marks:
                continue
            named = asked[1] or asked[2] or b""
            model = names.get(named) or names.get(unquote_to_bytes(named), OTHER)
            yield Request(model, int(code), int(end) / 1000, int(took) / 1000)


class _Histogram:
    __slots__ = ("counts", "last_sound_s", "total_s", "unmeasured")

    def __init__(self) -> None:
        self.counts = [0] * (len(REQUEST_SECONDS) + 1)
        self.total_s = 0.0
        self.last_sound_s = 0.0
        self.unmeasured = 0


class RequestCounts:
    """Everything counted since the exporter started."""

    def __init__(self, clock: ClockWatch) -> None:
        self._clock = clock
        self._histograms: dict[tuple[str, str], _Histogram] = {}

    def expect(self, models: Iterable[str]) -> None:
        """Models whose series are there before their first request."""
        for model in models:
            for code in _ALWAYS:
                self._of(model, code)

    def _of(self, model: str, code: int) -> _Histogram:
        key = (model, str(code) if 100 <= code <= 599 else OTHER)
        found = self._histograms.get(key)
        if found is None:
            found = self._histograms[key] = _Histogram()
        return found

    def count(self, requests: Iterable[Request]) -> None:
        """Count each request; one whose duration the clock cannot have told is counted at the last sound one."""
        for request in requests:
            histogram = self._of(request.model, request.code)
            duration = request.duration_s
            if request.end_s is None or self._clock.sound(request.end_s, duration):
                histogram.last_sound_s = duration
            else:
                histogram.unmeasured += 1
                duration = histogram.last_sound_s
            histogram.counts[bisect_left(REQUEST_SECONDS, duration)] += 1
            histogram.total_s += duration

    def add_to(self, families: Families) -> None:
        for (model, code), histogram in self._histograms.items():
            families.add_histogram(
                "embedding_request_duration_seconds",
                REQUEST_SECONDS, histogram.counts, histogram.total_s, model=model, code=code,
            )  # fmt: skip
            families.add("embedding_request_unmeasured_total", histogram.unmeasured, model=model, code=code)
        families.add("embedkit_clock_steps_total", self._clock.steps)
