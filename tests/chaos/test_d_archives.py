"""What is found in the store at a start is not what was verified."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from ops.desired import desired_file, read_models
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack
from tests.model_folders import make_bge_shaped
from tests.ops.prometheus.server import Server, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

TINY = (
    '\n[{name}]\nsource = {{ folder = "{name}" }}\nhandler = "bge"\nworkers = 1\nbackend = "torch"\ndtype = "float32"\n'
)


def served_file(stack: Stack, model: str) -> Path:
    return stack.settings.served / read_models(desired_file(stack.settings))[model].archive


def replace(file: Path, content: bytes) -> None:
    """By a new file: the old one is linked elsewhere in the store too."""
    beside = file.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(file)


def alert_at_once(stack: Stack) -> None:
    """Take the waiting out of the alerts."""
    rules = stack.settings.etc / "rules" / "alerts.yml"
    text = re.sub(r"for: \w+", "for: 0s", rules.read_text())
    text = re.sub(r"\[(2m|5m)\]", "[5s]", text)
    rules.write_text(text.replace("interval: 15s", "interval: 1s"))
    recording = stack.settings.etc / "rules" / "recording.yml"
    recording.write_text(recording.read_text().replace("interval: 15s", "interval: 1s"))
    stack.supervisorctl("signal", "HUP", "prometheus")


def firing(server: Server, model: str) -> set[str]:
    """Alerts that name the model."""
    found = server.query(f'ALERTS{{alertstate="firing", model="{model}"}}')
    return {labels["alertname"] for labels, _ in found}


def alerts_of(server: Server, model: str) -> set[str]:
    found: set[str] = wait_for(lambda: firing(server, model), 60, f"{model} is named by an alert")
    return found


def test_a_wrong_and_a_corrupt_archive_at_a_start(
    fresh_stack: Callable[[], Stack], record: Callable[[Row], None]
) -> None:
    """The other model serves as ever; doctor, status and an alert name the two."""
    stack = fresh_stack()
    for seed, name in enumerate(("wrong", "corrupt")):
        make_bge_shaped(stack.folder / name, layers=1, hidden=64, seed=seed)
        with stack.settings.models_file.open("a") as file:
            file.write(TINY.format(name=name))
    stack.environ |= {"EMBEDKIT_PROMETHEUS": "on", "EMBEDKIT_SCRAPE_INTERVAL_S": "1"}
    stack.embedkit("up", "minilm", "wrong", "corrupt")
    alert_at_once(stack)
    server = Server(stack.settings.local_url("prometheus"))
    trial = Trial(stack, record)
    with trial:
        shutil.copyfile(served_file(stack, "corrupt"), stack.folder / "other.mar")
        replace(served_file(stack, "wrong"), (stack.folder / "other.mar").read_bytes())
        replace(served_file(stack, "corrupt"), os.urandom(100_000))
        trial.strike(lambda: os.kill(trial.before.server, signal.SIGKILL))
        serving = trial.serving(90)
        full = trial.full_strength(90)
        alerts = {name: alerts_of(server, name) for name in ("wrong", "corrupt")}
    status = {
        one["model"]: one["ok"]
        for one in orjson.loads(stack.embedkit("status", "--json", check=False).stdout)["models"]
    }
    findings = orjson.loads(stack.embedkit("doctor", "--json", check=False).stdout)["findings"]
    failing = {one["check"] for one in findings if one["status"] == "fail"}
    trial.row(
        32,
        "a wrong and a corrupt archive at a start",
        "the other model serves; doctor, status and an alert name them",
        met=status == {"minilm": True, "wrong": False, "corrupt": False}
        and {"archive wrong", "archive corrupt"} <= failing
        and all(alerts.values()),
        serving_s=serving,
        full_s=full,
        note="; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in alerts.items()),
    )
