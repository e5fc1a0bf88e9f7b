"""Change without downtime, for real: deploys, rollbacks and drains under load, and whatever is killed meanwhile."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import orjson
import pytest
import requests
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from ops.gateway.config import haproxy_file
from tests import patience
from tests.e2e.stack import BIN, TEXT, Stack, own_stack
from tests.model_folders import make_bge_shaped

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.needs("haproxy")]

MODEL = "tiny"
ENTRY = """[tiny]
source = {{ folder = "{folder}" }}
workers = 1
backend = "torch"
dtype = "float32"
queue_size = {queue_size}
"""
QUEUES = {"a": 256, "b": 100}


@dataclass
class Deployment:
    """A stack that serves one of two small models under one name. `truth`: model → TEXT's vector by plain
    sentence-transformers."""

    stack: Stack
    truth: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def choose(self, folder: str) -> None:
        """What models.toml says from now on."""
        self.stack.settings.models_file.write_text(ENTRY.format(folder=folder, queue_size=QUEUES[folder]))

    def whose(self, answer: requests.Response) -> str:
        """Which model's right vector it is; fails where it is neither's."""
        vector = np.asarray(answer.json()["data"][0]["embedding"])
        (name,) = [name for name, true in self.truth.items() if np.allclose(vector, true, atol=1e-4)]
        return name

    def serving(self) -> str:
        """The model whose vector comes back now."""
        answer = self.stack.post({"input": TEXT}, MODEL)
        assert answer.status_code == 200, answer.text
        return self.whose(answer)

    def places(self) -> int:
        """How many requests the gateway sends to TorchServe at once."""
        text = haproxy_file(self.stack.settings).read_text()
        return sum(int(count) for count in re.findall(r"server torchserve .* maxconn (\d+)", text))

    def versions(self) -> list[str]:
        entries = requests.get(self.stack.settings.management_url(f"/models/{MODEL}/all"), timeout=10).json()
        return [one["modelVersion"] for one in entries]

    @contextlib.contextmanager
    def changing(self, command: str, until: str) -> Iterator[subprocess.Popen[str]]:
        """The command in its own process, at the moment when it says `until`; then it is killed."""
        with subprocess.Popen(
            [str(BIN / "embedkit"), command, MODEL],
            env=self.stack.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert any(until in line for line in process.stderr), f"it ended without {until!r}"
            yield process
            process.kill()

    def kill_server(self) -> None:
        os.kill(self.stack.jvm_pid(), signal.SIGKILL)


@dataclass
class Load:
    """Clients that send TEXT over and over to `url`. `outcomes`: whose right vector came, or what else → how often;
    `made_by`: (fingerprint, whose vector) as they came together."""

    deployment: Deployment
    url: str
    outcomes: Counter[str] = field(default_factory=Counter)
    made_by: set[tuple[str, str]] = field(default_factory=set)
    broken: list[float] = field(default_factory=list)  # when the requests without any answer were sent
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self, clients: int, pause_s: float = 0.0) -> Iterator["Load"]:
        threads = [threading.Thread(target=self._send, args=(pause_s,)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _send(self, pause_s: float) -> None:
        with requests.Session() as session:
            while not self._stop.wait(pause_s):
                sent = time.monotonic()
                try:
                    answer = session.post(self.url, json={"input": TEXT}, timeout=45)
                except requests.RequestException as error:
                    self.outcomes[type(error).__name__] += 1
                    self.broken.append(sent)
                    continue
                if answer.status_code != 200:
                    self.outcomes[str(answer.status_code)] += 1
                    continue
                try:
                    found = self.deployment.whose(answer)
                except ValueError:
                    found = "a wrong vector"
                self.outcomes[found] += 1
                self.made_by.add((answer.headers["X-Embedkit-Fingerprint"], found))


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """Model `a` is served; `b` lies beside it."""
    with own_stack() as stack:
        made = Deployment(stack)
        for seed, name in enumerate("ab", 1):
            make_bge_shaped(stack.folder / name, layers=2, hidden=64, seed=seed)
            model = SentenceTransformer(str(stack.folder / name), device="cpu")
            made.truth[name] = np.asarray(model.encode(TEXT, normalize_embeddings=True))
        assert not np.allclose(made.truth["a"], made.truth["b"], atol=0.01)
        made.choose("a")
        stack.embedkit("up", MODEL)
        assert made.serving() == "a"
        yield made


def test_no_request_fails_in_a_deploy_and_a_rollback(deployment: Deployment) -> None:
    """Requests from clients that never pause, to TorchServe and through the gateway: each gets the old or the new
    model's right vector, and its name; the gateway goes by each archive's own queue."""
    stack = deployment.stack
    deployment.choose("b")
    named = Load(deployment, stack.url(MODEL, "/1.0/v1/embeddings"))
    through = Load(deployment, stack.settings.gateway_url("/v1/embeddings"))
    direct = Load(deployment, stack.url(MODEL))
    with direct.running(4), through.running(2), named.running(1, pause_s=0.5):
        done = orjson.loads(stack.embedkit("deploy", MODEL, "--drain-timeout", "5", "--json").stdout)
        assert (done["changed"], deployment.serving(), deployment.versions()) == (True, "b", ["1.0"])
        assert deployment.places() == QUEUES["b"]
        stack.embedkit("rollback", MODEL, "--drain-timeout", "5")
        assert (deployment.serving(), deployment.versions()) == ("a", ["1.0"])
        assert deployment.places() == QUEUES["a"]
    for what, load in (("direct", direct), ("gateway", through), ("by version", named)):
        print(f"{what}: {dict(load.outcomes)}")
    for load in (direct, through):
        assert set(load.outcomes) == {"a", "b"}
        assert sorted(whose for _, whose in load.made_by) == ["a", "b"]
    assert direct.outcomes.total() + through.outcomes.total() > 1000
    # A URL that names a version is the documented limit: of each removal a request may be dropped, another get a 404.
    assert named.outcomes.total() - named.outcomes["a"] - named.outcomes["b"] <= 4
    assert named.outcomes["a wrong vector"] == 0


def test_up_keeps_what_was_rolled_back(deployment: Deployment) -> None:
    """models.toml still says what was rolled back from: `up` says so and leaves it; `deploy` is how to bring it."""
    assert "as it was rolled back" in deployment.stack.embedkit("up").stderr
    assert deployment.serving() == "a"


def test_a_version_that_answers_wrongly_is_refused(deployment: Deployment) -> None:
    """The old one serves on, and nothing of the new one is left in the server."""
    stack = deployment.stack
    seen = stack.settings.store / f"{MODEL}-1.0.verified.json"
    sound = seen.read_bytes()
    other = orjson.loads(sound)
    other["vectors"][0].reverse()
    seen.write_bytes(orjson.dumps(other))
    refused = stack.embedkit("deploy", MODEL, check=False)
    seen.write_bytes(sound)
    assert refused.returncode == 1
    assert "is refused" in refused.stderr
    assert "a wrong vector came back" in refused.stderr
    assert (deployment.serving(), deployment.versions()) == ("a", ["1.0"])


def test_a_deploy_killed_before_it_took_effect_is_finished_by_the_next(deployment: Deployment) -> None:
    """The default has not moved: a killed server comes back with the old model, status tells, the next one finishes."""
    stack = deployment.stack
    with deployment.changing("deploy", "workers ready") as process:
        process.kill()
    assert "was interrupted: `embedkit deploy tiny` finishes it" in stack.embedkit("status", check=False).stderr
    deployment.kill_server()
    stack.recovered(deployment.truth["a"], 60, MODEL)
    stack.embedkit("deploy", MODEL)
    assert (deployment.serving(), deployment.versions()) == ("b", ["1.0"])


def test_the_new_version_comes_back_once_the_default_has_moved(deployment: Deployment) -> None:
    """The server is killed right after it: it comes back with the new model, and `up`, a deploy here, goes on."""
    stack = deployment.stack
    deployment.choose("a")
    with deployment.changing("up", "requests go to version 1.0-") as process:
        deployment.kill_server()
        stack.recovered(deployment.truth["a"], 60, MODEL)
        process.communicate(timeout=patience.scaled(120))
        assert process.returncode == 0
    assert (deployment.serving(), deployment.versions()) == ("a", ["1.0"])
    assert stack.embedkit("status").stderr == ""


@pytest.mark.parametrize("until", ["workers ready", "requests go to version 1.0-", "version 1.0 is removed"])
def test_a_rollback_undoes_a_killed_deploy(deployment: Deployment, until: str) -> None:
    """Before the default moved, after it, and with the old version gone from the server: the old archive serves alone
    again, a killed server comes back with it, and `up` stays with it."""
    stack = deployment.stack
    before = stack.post({"input": TEXT}, MODEL).headers["X-Embedkit-Fingerprint"]
    deployment.choose("b")
    with deployment.changing("deploy", until):
        pass
    assert "`embedkit rollback tiny` undoes it" in stack.embedkit("status", check=False).stderr
    done = orjson.loads(stack.embedkit("rollback", MODEL, "--json").stdout)
    assert (done["changed"], deployment.serving(), deployment.versions()) == (True, "a", ["1.0"])
    deployment.kill_server()
    stack.recovered(deployment.truth["a"], 60, MODEL)
    assert stack.post({"input": TEXT}, MODEL).headers["X-Embedkit-Fingerprint"] == before
    assert "as it was rolled back" in stack.embedkit("up").stderr
    assert deployment.serving() == "a"


def test_a_drain_loses_nothing_it_accepted(deployment: Deployment) -> None:
    """Under load `down --drain` refuses with 503 until nobody listens any more; no request loses its answer before."""
    stack, stopping = deployment.stack, 0.0
    command = [str(BIN / "embedkit"), "down", "--drain", "--json"]
    with Load(deployment, stack.url(MODEL)).running(6) as load:
        time.sleep(1)
        with subprocess.Popen(command, env=stack.environ, stdout=-1, stderr=-1, text=True) as down:
            assert down.stdout is not None
            assert down.stderr is not None
            for line in down.stderr:
                if "stopping supervisord" in line:
                    stopping = time.monotonic()
            assert orjson.loads(down.stdout.read()) == {"stopped": True, "dropped": []}
    print(dict(load.outcomes))
    assert set(load.outcomes) == {"a", "503", "ConnectionError"}
    assert [sent for sent in load.broken if sent < stopping - 0.5] == []
    assert stack.processes() == []
