"""Talk to a running HAProxy over its master's socket: give it keys, ask it what each key did."""

import csv
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from ops.errors import OpsError
from ops.gateway.keys import entries
from ops.gateway.program import socket_file
from ops.settings import Settings

TIMEOUT_S = 5.0
_WORKER = re.compile(r"^(\d+)\s+worker\s", re.MULTILINE)
_MAP = re.compile(r"^(\d+) \(", re.MULTILINE)
# A worker that began open under an earlier version of the kit asks for a key once its map has this.
_CLOSES_EARLIER = "closed yes\n"
_ENTRY = re.compile(r"key=(\S+) .*?http_req_cnt=(\d+) http_err_cnt=(\d+) http_fail_cnt=(\d+)")


@dataclass(frozen=True)
class KeyUse:
    """What came with one key since HAProxy has this configuration; `refused` are 4xx, `failed` 5xx."""

    requests: int
    refused: int
    failed: int


@dataclass(frozen=True)
class Admission:
    """One of a model's places with TorchServe: requests there now, and how many there may be before one is refused.
    `bodies` is "whole" for those in memory, "large" for those that go on while they still come."""

    model: str
    bodies: str
    admitted: int
    limit: int


def ask(settings: Settings, command: str) -> str:
    """HAProxy's answer to one command.

    Raises:
        OpsError: it does not answer.
    """
    path = socket_file(settings)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT_S)
            client.connect(str(path))
            client.sendall(command.encode() + b"\n")
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b"")).decode(errors="replace")
    except OSError as error:
        raise OpsError(f"the gateway does not answer on {path} ({error.strerror or error})") from error


def workers(settings: Settings) -> list[int]:
    """The pids of HAProxy's workers: the one that accepts, and any that end with their last connections."""
    return [int(pid) for pid in _WORKER.findall(ask(settings, "show proc"))]


def reload(settings: Settings) -> None:
    """Have HAProxy read its configuration again, whoever has started it."""
    ask(settings, "reload")


def give_keys(settings: Settings, keys: Mapping[str, str] | None) -> None:
    """Replace the keys of every worker at once, without a reload: a revoked one ends with the request it is in.

    That holds for workers too that have only their open connections left. None: nobody needs a key.

    Raises:
        OpsError: HAProxy does not answer, or not as expected.
    """
    lines = entries(keys) + ("" if keys is None else _CLOSES_EARLIER)
    pids = workers(settings)
    if not pids:
        raise OpsError("the gateway has no worker that could take the keys: `supervisorctl restart gateway`")
    for pid in pids:
        said = _give(settings, pid, lines)
        if said and pid in workers(settings):  # an old one ends with its last connection
            raise OpsError(f"the gateway does not take the keys: {said}: `supervisorctl restart gateway`")


def _give(settings: Settings, pid: int, lines: str) -> str:
    """Replace what is in a worker's map; returns what HAProxy has against it."""
    shown = ask(settings, f"@!{pid} show map")
    number = _MAP.search(shown)  # it has but one, named after the file that it began with, which need not be today's
    if number is None:
        return shown.strip() or "no map"
    answer = ask(settings, f"@!{pid} prepare map #{number[1]}")
    version = re.search(r"New version created: (\d+)", answer)
    if version is None:
        return answer.strip() or "no answer"
    answer = ask(settings, f"@!{pid} add map @{version[1]} #{number[1]} <<\n{lines}")
    return (answer + ask(settings, f"@!{pid} commit map @{version[1]} #{number[1]}")).strip()


def admissions(settings: Settings) -> list[Admission]:
    """The places of each model that is served.

    Raises:
        OpsError: HAProxy does not answer.
    """
    rows = csv.DictReader(ask(settings, "@1 show stat -1 4 -1").removeprefix("# ").splitlines())  # 4: servers alone
    found = []
    for row in rows:
        _, is_model, name = row["pxname"].partition("model-")
        if is_model:
            model, large, _ = name.partition("-large")  # no model's name has a hyphen
            found.append(Admission(model, "large" if large else "whole", int(row["scur"]), int(row["slim"])))
    return found


def key_use(settings: Settings) -> dict[str, KeyUse]:
    """Key's name → what came with it.

    Raises:
        OpsError: HAProxy does not answer.
    """
    table = ask(settings, "@1 show table gateway")
    return {name: KeyUse(*map(int, counts)) for name, *counts in _ENTRY.findall(table)}
