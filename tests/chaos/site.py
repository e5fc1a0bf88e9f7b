"""The deployment that is broken, and what is looked at before and after."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil
import requests

from ops.prepare import known_references
from ops.probe import probe
from ops.supervisor.config import pid_file
from ops.supervisor.watchdog.ledger import ledger_file, read_ledger
from ops.torchserve.management import Loaded, Management, ManagementError
from tests import patience
from tests.e2e.stack import TEXT, Stack

MB = 1 << 20
PROBE_S = 1.5
STARTS_S = 30.0  # supervisord calls a program RUNNING some seconds after it has started


@dataclass(frozen=True)
class Footprint:
    """What runs: supervisord's pid, its programs' by name, the workers' by model, and the memory of all, in bytes."""

    supervisord: int
    programs: Mapping[str, int]
    workers: Mapping[str, frozenset[int]]
    memory: int

    @property
    def server(self) -> int:
        return self.programs["torchserve"]


def footprint(stack: Stack) -> Footprint:
    models = Management(stack.settings).models()
    workers = {name: frozenset(stack.worker_pids(name)) for name in models}
    return Footprint(supervisord(stack), programs(stack), workers, memory(stack))


def supervisord(stack: Stack) -> int:
    return int(pid_file(stack.settings).read_text())


def programs(stack: Stack) -> dict[str, int]:
    """Name → pid of the programs that run, as supervisorctl tells it; what starts is waited for."""
    told = stack.supervisorctl("status", check=False).stdout
    began = time.monotonic()
    within_s = patience.scaled(STARTS_S)
    while re.search(r"^\w+ +STARTING", told, re.MULTILINE) and time.monotonic() - began < within_s:
        time.sleep(0.5)
        told = stack.supervisorctl("status", check=False).stdout
    return {name: int(pid) for name, pid in re.findall(r"^(\w+) +RUNNING +pid (\d+)", told, re.MULTILINE)}


def memory(stack: Stack) -> int:
    """Resident bytes of the whole service."""
    total = 0
    for process in stack.processes():
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def orphans(stack: Stack) -> list[int]:
    """Processes of ours that are not below our supervisord: nobody would end or replace them."""
    root = psutil.Process(supervisord(stack))
    family = {root.pid, *(one.pid for one in root.children(recursive=True))}
    return sorted(one.pid for one in stack.processes() if one.pid not in family and one.is_running())


def lost_ports(stack: Stack) -> tuple[int, ...]:
    """Ports on which not exactly one process of ours listens."""
    holders: dict[int, set[int]] = {}
    for process in stack.processes():
        try:
            for one in process.net_connections(kind="tcp"):
                if one.status == psutil.CONN_LISTEN:
                    holders.setdefault(one.laddr.port, set()).add(process.pid)
        except psutil.NoSuchProcess:
            continue
    return tuple(port for port in stack.settings.ports.values() if len(holders.get(port, ())) != 1)


def wait(claim: Callable[[], bool], since: float, within_s: float, what: str, every_s: float = 0.1) -> float:
    """Seconds from `since` until a claim is true; fails when that takes longer than `within_s` of a quiet machine."""
    within_s = patience.scaled(within_s)
    while not claim():
        assert time.monotonic() - since < within_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(every_s)
    return time.monotonic() - since


def serves(stack: Stack, model: str = "minilm") -> bool:
    """Whether the known text comes back as the right vector, now."""
    _, references = known_references(stack.settings)
    return probe(stack.settings, model, references[model], timeout_s=PROBE_S).ok


def serving_again(stack: Stack, since: float, within_s: float, model: str = "minilm") -> float:
    """Seconds from `since` until the right vector has come to a request that was sent after it.

    Tries overlap, so that one that a hung worker has taken does not hide the next.
    """
    within_s = patience.scaled(within_s)
    _, references = known_references(stack.settings)
    done = threading.Event()
    finished: list[float] = []

    def attempt() -> None:
        if probe(stack.settings, model, references[model], timeout_s=PROBE_S).ok:
            finished.append(time.monotonic())
            done.set()

    while not done.is_set():
        assert time.monotonic() - since < within_s, f"{model}: no right vector within {within_s:.0f} s"
        threading.Thread(target=attempt, daemon=True).start()
        done.wait(0.2)
    return min(finished) - since


def loaded(stack: Stack, model: str = "minilm") -> Loaded | None:
    """What TorchServe says of a model; None where it does not answer or has none such."""
    try:
        versions = Management(stack.settings, timeout_s=2).describe(model)
    except ManagementError:
        return None
    return versions[0] if versions else None


def at_full_strength(stack: Stack, model: str = "minilm", without: frozenset[int] = frozenset()) -> bool:
    """Whether as many workers as wanted are ready, all alive and none of `without`."""
    found = loaded(stack, model)
    if found is None or found.ready < found.min_workers:
        return False
    pids = {worker.pid for worker in found.workers if worker.ready}
    return not pids & without and all(is_alive(pid) for pid in pids)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED}
    except psutil.NoSuchProcess:
        return False


def watchdog_actions(stack: Stack) -> Counter[tuple[str, str]]:
    """(action, target) → how often, since supervisord's first start here."""
    file = ledger_file(stack.settings)
    return Counter(read_ledger(file).actions) if file.exists() else Counter()


def scrape(stack: Stack) -> str:
    """The exporter's page; empty where it does not answer."""
    try:
        return requests.get(stack.settings.exporter_url("/metrics"), timeout=5).text
    except requests.RequestException:
        return ""


def through_gateway(stack: Stack) -> bool:
    """Whether the gateway hands on a vector."""
    try:
        answer = requests.post(stack.settings.gateway_url("/v1/embeddings"), json={"input": TEXT}, timeout=5)
    except requests.RequestException:
        return False
    return answer.status_code == 200
