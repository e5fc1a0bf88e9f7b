"""The order in which a deploy takes effect."""

from pathlib import Path

import pytest

from archives.progress import SILENT
from ops.deploy.converge import Converging, Limits
from ops.deploy.plan import MakeDefault
from ops.desired import Served, commit, desired_file, read_models
from ops.settings import Settings
from ops.torchserve.management import Management

OLD = Served("m", "1.0", "m-1.0-a.mar", "a" * 64)
NEW = Served("m", "1.0", "m-1.0-b.mar", "b" * 64)


def test_the_target_is_promised_before_requests_go_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the default moves desired.json names the target already: a crash then brings nothing older back."""
    settings = Settings(var=tmp_path)
    commit(settings, OLD)
    seen = []

    def set_default(_: Management, model: str, version: str) -> None:
        seen.append((model, version, read_models(desired_file(settings))["m"]))

    monkeypatch.setattr(Management, "set_default", set_default)
    Converging(settings, NEW, Limits(60), SILENT)._take(MakeDefault("1.0-b"))
    assert seen == [("m", "1.0-b", NEW)]
