"""The kit is replaced under a running service."""

import orjson
import pytest

from ops.supervisor.control import Supervisor
from tests.chaos.trial import Trial

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def test_an_update_in_place(trial: Trial) -> None:
    """State as another version left it, without a schema, with a setting too many and one too few: every program that
    is started again runs and the right vector comes back, with no `embedkit up` between."""
    stack = trial.stack

    def update() -> None:
        content = orjson.loads(stack.settings.file.read_bytes())
        del content["schema"], content["gateway_route_kb"]
        stack.settings.file.write_bytes(orjson.dumps({**content, "setting_of_old": 1}))
        stack.supervisorctl("restart", "all")

    with trial:
        trial.strike(update)
        serving = trial.serving(90)
        full = trial.full_strength(90)
    programs = Supervisor(stack.settings).programs()
    assert [one.name for one in programs if not one.alive] == []
    trial.row(
        500,
        "update in place: every program restarts on the state of another version",
        "every program runs, serving",
        met=True,
        serving_s=serving,
        full_s=full,
    )
