"""A real Prometheus with the kit's own configuration and command line, on a port and a folder of its own."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from ops.observers import plan, write_files
from ops.settings import Settings
from tests import patience


def wait_for(claim: Callable[[], Any], within_s: float, what: str) -> Any:
    """The first true value of `claim`; fails when there is none within these seconds of a quiet machine."""
    deadline = time.monotonic() + patience.scaled(within_s)
    while True:
        found = claim()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False


@contextmanager
def running(
    settings: Settings,
    change: Callable[[Path, str], str] = lambda _, text: text,
    names: tuple[str, ...] = ("prometheus",),
) -> Iterator[None]:
    """Run the planned observers `names` until the block ends; `change` may alter a file before they read it."""
    planned = plan(settings, ours={}, port_is_free=lambda _: True)
    assert {program.name for program in planned.programs} >= set(names), f"install prometheus: {planned.notes}"
    settings.etc.mkdir(parents=True, exist_ok=True)
    files = {
        name: {path: change(path, text) for path, text in contents.items()} for name, contents in planned.files.items()
    }
    write_files(files)
    started = []
    try:
        for program in planned.programs:
            if program.name in names:
                log = (settings.var / f"{program.name}.log").open("wb")
                started.append(
                    subprocess.Popen(program.command, stdout=log, stderr=subprocess.STDOUT, cwd=settings.var)
                )
                log.close()
        for name in names:
            url = settings.local_url(name) + "/-/ready"
            wait_for(lambda url=url: answers(url), 30, (settings.var / f"{name}.log").read_text())  # type: ignore[misc]
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(20)


def quick(path: Path, text: str) -> str:
    """The same rules, judged every second and at once, over seconds where they look back for minutes."""
    if path.name == "alerts.yml":
        text = re.sub(r"for: \w+", "for: 0s", text).replace("canary_success[2m]", "canary_success[2s]")
    else:
        text = text.replace("[1m]", "[5s]")
        refused = r"(?<=record: instance_model:embedding_requests_refused)(?s:.*?)(?=- record)"
        text = re.sub(refused, lambda rule: rule[0].replace("[5m]", "[10s]"), text)
    return text.replace("interval: 15s", "interval: 1s")


class Server:
    """Asks a Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def _get(self, path: str, **params: Any) -> Any:
        answer = requests.post(f"{self.url}/api/v1/{path}", data=params, timeout=20)
        body = answer.json()
        assert body["status"] == "success", f"{params}: {body.get('error')}"
        return body["data"]

    def query(self, expr: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of each series of an instant vector.

        Raises:
            AssertionError: Prometheus finds fault with the expression; says which.
        """
        found = self._get("query", query=expr, **({"time": at} if at else {}))
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def value(self, expr: str, at: float | None = None) -> float:
        """The one value of an expression."""
        found = self.query(expr, at)
        assert len(found) == 1, f"{expr}: {found}"
        return found[0][1]

    def range(self, expr: str, start: float, end: float, step: float) -> list[tuple[dict[str, str], Any]]:
        """(labels, [(time, value), …]) of each series."""
        found = self._get("query_range", query=expr, start=start, end=end, step=step)
        return [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in found["result"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        found = requests.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}
