"""supervisord's event protocol: stdin brings ticks, stdout answers them and is for nothing else."""

from collections.abc import Iterator
from typing import TextIO

from supervisor.childutils import get_headers, listener


def ticks(incoming: TextIO, outgoing: TextIO) -> Iterator[None]:
    """One item a tick, until supervisord is gone."""
    while True:
        listener.ready(outgoing)
        header = incoming.readline()
        if not header:
            return
        incoming.read(int(get_headers(header)["len"]))
        yield
        listener.ok(outgoing)
