"""The real thing on ports and folders of its own: TorchServe on JDK 11 under supervisord, driven by the CLI."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import orjson
import psutil
import requests
from numpy.typing import NDArray

from env.jdk import packaged_java
from ops.settings import Settings
from ops.torchserve import leftovers
from tests import patience

BIN = Path(sys.executable).parent
TEXT = "How are vectors made?"
# Prometheus and its like are slow to start and none of most tests' business.
OBSERVERS_OFF: Final[dict[str, Literal["off"]]] = {"prometheus": "off", "alertmanager": "off", "grafana": "off"}


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at the moment."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


@dataclass
class Stack:
    """One private deployment. `reference` holds the vectors that were right before a fault."""

    folder: Path
    settings: Settings = field(init=False)
    environ: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        grpc = ("grpc_inference", "grpc_management")
        observers = ("exporter", "prometheus", "alertmanager", "grafana")
        names = ("inference", "management", "metrics", *grpc, *observers, "gateway", "gateway_metrics")
        ports = {f"{name}_port": port for name, port in zip(names, free_ports(len(names)), strict=True)}
        self.settings = Settings(
            var=self.folder / "var",
            store=self.folder / "store",
            models_file=self.folder / "models.toml",
            jvm_heap_mb=512,
            canary_interval_s=2,
            **OBSERVERS_OFF,
            **ports,
        )
        temp = self.folder / "t"
        temp.mkdir(parents=True)
        java = packaged_java()
        assert java is not None
        chosen = {f"EMBEDKIT_{name.upper()}": str(getattr(self.settings, name)) for name in ports}
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("EMBEDKIT_")} | {
            **chosen,
            "EMBEDKIT_VAR": str(self.settings.var),
            "EMBEDKIT_STORE": str(self.settings.store),
            "EMBEDKIT_MODELS_FILE": str(self.settings.models_file),
            "EMBEDKIT_JVM_HEAP_MB": "512",
            "EMBEDKIT_CANARY_INTERVAL_S": "2",
            **{f"EMBEDKIT_{name.upper()}": value for name, value in OBSERVERS_OFF.items()},
            "TMPDIR": str(temp),
            "JAVA_HOME": str(java.parent.parent),
            "PATH": f"{self.folder / 'bin'}:{BIN}:{os.environ['PATH']}",
            "COLUMNS": "200",
        }

    def run(self, *command: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of this deployment would; a failure shows what it printed."""
        done = subprocess.run(
            command, env=self.environ, cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def embedkit(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of the kit; the start of a server by `up` is measured."""
        since = time.monotonic()
        done = self.run(str(BIN / "embedkit"), *words, check=check)
        if words[0] == "up" and not done.returncode:
            patience.measure(self.servers(), time.monotonic() - since)
        return done

    def supervisorctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The real supervisorctl of an environment whose etc/ holds our configuration: no flags."""
        program = self.folder / "bin" / "supervisorctl"
        if not program.exists():
            program.parent.mkdir(exist_ok=True)
            shutil.copy(BIN / "supervisorctl", program)
            (self.folder / "etc").mkdir()
            (self.folder / "etc" / "supervisord.conf").symlink_to(self.settings.etc / "supervisord.conf")
        return self.run("supervisorctl", *words, check=check)

    def url(self, model: str = "minilm", path: str = "") -> str:
        return self.settings.inference_url(f"/predictions/{model}{path}")

    def post(self, body: Any, model: str = "minilm", **kwargs: Any) -> requests.Response:
        return requests.post(self.url(model), json=body, timeout=60, **kwargs)

    def embed(self, text: str = TEXT, model: str = "minilm") -> NDArray[np.float64]:
        """One text's vector; fails the test where none comes."""
        answer = self.post({"input": text}, model)
        assert answer.status_code == 200, answer.text
        return np.asarray(answer.json()["data"][0]["embedding"])

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.embedkit("status", "--json", check=False).stdout)
        return found

    def worker_pids(self, model: str = "minilm") -> set[int]:
        entries = requests.get(self.settings.management_url(f"/models/{model}"), timeout=10).json()
        return {one["pid"] for one in entries[0]["workers"] if one["status"] == "READY"}

    def full_strength(self, model: str = "minilm") -> set[int]:
        """The pids of all workers that the model should have, once they are there."""
        entries = requests.get(self.settings.management_url(f"/models/{model}"), timeout=10).json()
        wanted = int(entries[0]["minWorkers"])
        self.eventually(lambda: len(self.worker_pids(model)) == wanted, 30)
        return self.worker_pids(model)

    def servers(self) -> list[psutil.Process]:
        """TorchServe's JVM; none or two for a moment, while one takes the other's place."""
        ours = leftovers.our_processes(self.settings)
        return [one for one in ours if leftovers.is_server(one.info["cmdline"], self.settings)]

    def jvm_pid(self) -> int:
        servers = self.servers()
        assert len(servers) == 1, f"{len(servers)} servers run"
        return servers[0].pid

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this deployment, supervisord included."""
        mine = leftovers.everything(self.settings)
        conf = str(self.settings.etc / "supervisord.conf")
        for process in psutil.process_iter(["cmdline"]):
            if conf in (process.info["cmdline"] or []):
                mine.append(process)
        return mine

    def end(self) -> list[int]:
        """Stop it; the pids of what `embedkit down` has left, killed then."""
        self.embedkit("down", check=False)
        left = self.processes()
        for process in left:
            process.kill()
        return [process.pid for process in left]

    def recovered(self, expected: NDArray[np.float64], within_s: float, model: str = "minilm") -> float:
        """Seconds until the same vector comes back; fails when that takes longer than `within_s` of a quiet machine."""
        started = time.monotonic()
        within_s, last = patience.scaled(within_s), ""
        while time.monotonic() - started < within_s:
            try:
                answer = requests.post(self.url(model), json={"input": TEXT}, timeout=5)
                if answer.status_code == 200:
                    np.testing.assert_allclose(answer.json()["data"][0]["embedding"], expected, atol=1e-6)
                    took = time.monotonic() - started
                    if last:
                        patience.measure(self.servers(), took)
                    return took
                last = f"{answer.status_code} {answer.text[:200]}"
            except requests.RequestException as error:
                last = type(error).__name__
            time.sleep(0.1)
        raise AssertionError(f"no answer within {within_s:.0f} s: {last}")

    def eventually(self, claim: Callable[[], bool], within_s: float = 20) -> None:
        """Wait for a claim to become true, within these seconds of a quiet machine."""
        deadline = time.monotonic() + patience.scaled(within_s)
        while not claim():
            assert time.monotonic() < deadline, "it did not become true in time"
            time.sleep(0.1)


@contextmanager
def own_stack() -> Iterator[Stack]:
    """A deployment in a folder of its own, not up yet; what is left of it at the end is killed, and fails the test."""
    folder = Path(tempfile.mkdtemp(prefix="ek-"))  # short: unix sockets lie below it
    stack = Stack(folder)
    try:
        yield stack
    finally:
        left = stack.end()
        shutil.rmtree(folder, ignore_errors=True)
    assert left == []
