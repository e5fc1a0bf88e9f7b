"""Management is slow while the server is busy: its vectors alone tell that it lives."""

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ops.supervisor.watchdog.clock import TICK_S
from ops.supervisor.watchdog.eyes import MANAGEMENT_S
from tests.chaos import site
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

WATCHED_S = 60.0
# Enough of the longest texts to queue that a probe takes seconds: then it is tried less than once in three looks.
CONNECTIONS = 96


class SlowDoor(socketserver.ThreadingTCPServer):
    """Hands on what management answers, as late as `slow_s` says; `answers` counts what has gone through."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.behind, self.slow_s, self.answers = port, 0.0, 0


class _Visit(socketserver.BaseRequestHandler):
    server: SlowDoor

    def handle(self) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.server.behind)) as behind:
            threading.Thread(target=self._ask, args=(behind,), daemon=True).start()
            while answer := behind.recv(65536):
                time.sleep(self.server.slow_s)
                self.request.sendall(answer)
                self.server.answers += 1

    def _ask(self, behind: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while asked := self.request.recv(65536):
                behind.sendall(asked)
            behind.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def watchdog_behind(stack: Stack) -> Iterator[SlowDoor]:
    """The watchdog asks management through this door; to everybody else it is as ever."""
    file = stack.settings.file
    before = file.read_bytes()
    with SlowDoor(stack.settings.management_port) as door:
        threading.Thread(target=door.serve_forever, daemon=True).start()
        try:
            file.write_text(json.dumps({**json.loads(before), "management_port": door.server_address[1]}))
            stack.supervisorctl("restart", "watchdog")
            site.wait(lambda: door.answers > 0, time.monotonic(), 30, "the watchdog asks through the door")
            time.sleep(2 * TICK_S)  # and has taken what came
            yield door
        finally:
            file.write_bytes(before)
            stack.supervisorctl("restart", "watchdog")
            door.shutdown()


def test_a_busy_server_with_slow_management(stack: Stack, record: Callable[[Row], None]) -> None:
    """A minute in which every look at management fails and hardly a probe is due: nothing restarts, every vector is
    right."""
    with watchdog_behind(stack) as door:
        trial = Trial(stack, record, connections=CONNECTIONS, profiles=("long",), keep_every=50)
        with trial:
            asked = door.answers
            trial.strike(lambda: setattr(door, "slow_s", 2 * MANAGEMENT_S))
            time.sleep(WATCHED_S)
            acted, asked = trial.watchdog(), door.answers - asked
            trial.full_strength(120)
            after = site.footprint(stack)
        waited = sorted(one.done - one.sent for one in trial.load.rights() if one.sent > trial.struck)
    assert asked > 0  # it was the door that made it slow
    trial.row(
        26,
        f"management too slow for {WATCHED_S:.0f} s on a busy server ({CONNECTIONS} connections, long texts)",
        "nothing restarts, no request fails",
        met=not acted
        and not trial.toll.failed
        and (after.server, after.workers) == (trial.before.server, trial.before.workers),
        note=f"median answer {waited[len(waited) // 2]:.1f} s",
    )
