"""`embedkit top`: scrape, compare with an earlier scrape, show; until it is interrupted, or once."""

import time
from collections import deque

import requests
from rich.live import Live

from ops import loopback
from ops.console import err, out
from ops.errors import OpsError
from ops.settings import Settings
from ops.supervisor.process import unanswering
from ops.top.figures import Figures, Scrape, figures, parse
from ops.top.view import view

# Rates and percentiles are of so much time, so that the screen is calm.
WINDOW_S = 15.0
TIMEOUT_S = 5.0


def scrape(settings: Settings) -> Scrape:
    """Ask the exporter.

    Raises:
        OpsError: it does not answer; says what to do.
    """
    url = settings.exporter_url("/metrics")
    try:
        answer = loopback.request("GET", url, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return parse(answer.text, time.monotonic())
    except (requests.RequestException, ValueError) as error:
        said = f"the exporter at {url} does not answer ({type(error).__name__})"
        if silent := unanswering(settings):
            raise OpsError(f"{said}, and {silent}") from error
        raise OpsError(
            f"{said}: `supervisorctl start exporter`, or `embedkit up` if nothing runs; its log is "
            f"{settings.logs / 'exporter.log'}"
        ) from error


def look_once(settings: Settings, interval_s: float) -> Figures:
    """The figures over one interval.

    Raises OpsError as scrape does.
    """
    before = scrape(settings)
    time.sleep(interval_s)
    return figures(before, scrape(settings), time.time())


def watch(settings: Settings, interval_s: float) -> None:
    """Keep the screen current until ^C; an exporter that goes away is told there and waited for.

    Raises:
        OpsError: it does not answer to begin with.
    """
    history = deque([scrape(settings)])
    with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
        while True:
            time.sleep(interval_s)
            try:
                history.append(scrape(settings))
            except OpsError as error:
                live.update(str(error), refresh=True)
                continue
            while len(history) > 2 and history[-1].at_s - history[1].at_s >= WINDOW_S:
                history.popleft()
            live.update(view(figures(history[0], history[-1], time.time())), refresh=True)


def show(settings: Settings, interval_s: float, *, once: bool) -> None:
    """For people."""
    if once:
        out.print(view(look_once(settings, interval_s)))
        return
    try:
        watch(settings, interval_s)
    except KeyboardInterrupt:
        err.print("embedkit: ended")
