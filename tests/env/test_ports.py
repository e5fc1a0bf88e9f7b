"""Who holds a port: looked at, never supposed."""

import errno
import os
import socket
import subprocess
import sys

import psutil
import pytest

from env.ports import ports
from tests.e2e.stack import free_ports

HERE = "127.0.0.1"
LISTENS = (
    "import socket, sys, time; host, port = sys.argv[1], int(sys.argv[2])\n"
    "listener = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)\n"
    "listener.bind((host, port)); listener.listen(); print(flush=True); time.sleep(60)"
)


@pytest.mark.parametrize("host", [HERE, "0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_a_port_is_ours_by_the_process_that_listens(host: str) -> None:
    """Held by a process of ours it is well, by another it is named with pid and command; free otherwise. A JVM's
    listeners are IPv6 sockets with IPv4 addresses."""
    (port,) = free_ports(1)
    wanted = {"inference": (HERE, port)}
    assert ports(wanted, ours=[]).detail == f"free: inference {port}"
    with subprocess.Popen([sys.executable, "-c", LISTENS, host, str(port)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        found = ports(wanted, ours=[os.getpid()])
        assert found.status == "fail"
        assert found.detail == f"inference {port} is taken by {psutil.Process(other.pid).name()} (pid {other.pid})"
        assert ports(wanted, ours=[other.pid]).detail == f"in use by this kit: inference {port}"
        assert ports({"inference": ("localhost", port)}, ours=[other.pid]).status == "ok"
        other.kill()


def test_the_address_matters() -> None:
    """Another program on another address of this machine is in nobody's way; on that address it is."""
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        assert ports({"inference": (HERE, port)}, ours=[]).status == "ok"
        for host in ("127.0.0.2", "0.0.0.0"):
            assert str(os.getpid()) in ports({"inference": (host, port)}, ours=[]).detail


def test_the_way_out_is_free_and_nobody_elses() -> None:
    """All taken ports are moved at once, past those that are taken too or belong to another listener."""
    with socket.create_server((HERE, 0)) as first:
        port = first.getsockname()[1]
        fix = ports({"inference": (HERE, port)}, ours=[], avoid=[port + 100]).fix
        named = int(fix.removeprefix("EMBEDKIT_INFERENCE_PORT=").removesuffix(" make up"))
        assert named not in {port, port + 100}
        with socket.create_server((HERE, named)):
            pass


def test_a_privileged_port_is_not_called_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this user may not have a port the reason is the system's own, and the way out a port above."""
    monkeypatch.setattr(
        "env.ports._refused", lambda _, port: PermissionError(errno.EACCES, "x") if port < 1024 else None
    )
    found = ports({"gateway": (HERE, 443)}, ours=[])
    assert found.detail == "gateway 443 cannot be had: Permission denied"
    assert found.fix == "EMBEDKIT_GATEWAY_PORT=1024 make up"
