"""Lines of the gateway's log → requests as their users saw them. Pure: no file is read here.

A line is JSON, as ops/gateway/door.py words it; what else HAProxy says stands between. Durations come from HAProxy's
monotonic clock. No client can make a series: models come from the allowlist, codes are HTTP's.
"""

from collections.abc import Collection, Iterable, Iterator

import orjson

from ops.exporter.access_log import OTHER, Request

# As nginx has it: whoever asked has gone away. HAProxy writes a 400, a 503 or -1, none of which anybody was answered.
GONE_AWAY = 499


class GatewayLineReader:
    """Reads lines with an allowlist of models."""

    def __init__(self) -> None:
        self._models: frozenset[str] = frozenset()
        self.unreadable = 0

    def allow(self, models: Collection[str]) -> None:
        """The models that get a name of their own from here on."""
        self._models = frozenset(models)

    def read(self, lines: Iterable[bytes]) -> Iterator[Request]:
        """The requests for an embedding among the lines; lists and health are none.

        An earlier version's line has no mark: TorchServe's log has counted what it is about.
        """
        for line in lines:
            if not line.startswith(b"{"):
                continue
            try:
                entry = orjson.loads(line)
                if "marked" not in entry or entry["method"] in {"GET", "HEAD"}:
                    continue
                model, code = str(entry["model"]), int(entry["status"])
                if entry["end"][0] in "Cc" and not 400 < code < 500:
                    code = GONE_AWAY
                yield Request(model if model in self._models else OTHER, code, None, int(entry["ms"]) / 1000)
            except (ValueError, KeyError, TypeError, IndexError):
                self.unreadable += 1
