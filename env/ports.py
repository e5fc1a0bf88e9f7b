"""Ports: whether they are free, and who holds those that are not."""

import errno
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain

import psutil

from env.checks import Finding

ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


def _refused(host: str, port: int) -> OSError | None:
    """Why no listener can be opened there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            return error
    return None


def port_is_free(host: str, port: int) -> bool:
    """Whether a listener could be opened there now."""
    return _refused(host, port) is None


def _holders(host: str, port: int) -> Iterator[int | None]:
    """The pids that listen there; None for one that this user may not look into."""
    addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port:
            address = one.laddr.ip.removeprefix("::ffff:")  # as a JVM has IPv4
            if address in addresses or ANY & {address, *addresses}:
                yield one.pid


def _named(pid: int | None) -> str:
    if pid is None:
        return "another user's program"
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"


def _next_free(host: str, port: int, avoid: Collection[int]) -> int:
    """A port above this one, or above the privileged ones, that can be had; for a command that names it."""
    candidates: Iterable[int] = chain(range(max(port + 100, 1024), 65536), range(1024, 65536))
    return next(one for one in candidates if one not in avoid and port_is_free(host, one))


def ports(wanted: Mapping[str, tuple[str, int]], ours: Collection[int], avoid: Collection[int] = ()) -> Finding:
    """Each port is free, or held by one of our processes.

    Args:
        wanted: listener → the address and port that it has to have.
        ours: pids of this kit.
        avoid: ports that are no way out: other listeners have them.
    """
    free, held, taken = [], [], []
    instead: dict[str, int] = {}
    for name, (host, port) in wanted.items():
        refused = _refused(host, port)
        if refused is None or refused.errno not in {errno.EADDRINUSE, errno.EACCES}:  # the address: see host
            free.append(f"{name} {port}")
            continue
        pids = list(_holders(host, port)) if refused.errno == errno.EADDRINUSE else []
        if pids and set(pids) <= set(ours):
            held.append(f"{name} {port}")
            continue
        strangers = [_named(pid) for pid in pids if pid not in ours]
        why = f"is taken by {', '.join(strangers)}" if strangers else f"cannot be had: {os.strerror(refused.errno)}"
        taken.append(f"{name} {port} {why}")
        instead[name] = _next_free(host, port, {*avoid, *instead.values()})
    if taken:
        moved = " ".join(f"EMBEDKIT_{name.upper()}_PORT={port}" for name, port in instead.items())
        return Finding("ports", "fail", "; ".join(taken), f"{moved} make up")
    shown = [f"in use by this kit: {', '.join(held)}"] * bool(held) + [f"free: {', '.join(free)}"] * bool(free)
    return Finding("ports", "ok", "; ".join(shown))
