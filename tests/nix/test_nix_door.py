"""The way in by nix, whole: the environment that a shell makes with uv, and the main job through the flake's apps."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.checkout import copy_checkout
from tests.e2e.stack import TEXT, Stack
from tests.nix.conftest import Nix

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_door(nix: Nix) -> None:
    """`nix develop` makes the locked environment in a new checkout and `embedkit doctor` finds no fault in it;
    `nix run .#up` serves there, a text comes back as the same vector twice, and `.#down` leaves nothing."""
    stack = Stack(nix.folder / "s")
    checkout = nix.folder / "c"
    copy_checkout(checkout)
    here = Nix(nix.folder, str(checkout), nix.stub)
    shutil.copy(Path(checkout) / "archives" / "models.toml", stack.settings.models_file)
    settings = {key: value for key, value in stack.environ.items() if key.startswith("EMBEDKIT_")}

    doctor = json.loads(here.ok("develop", "#cpu", "-c", "embedkit", "doctor", "--json", **settings))
    assert doctor["ok"]
    found = {one["check"]: one["detail"] for one in doctor["findings"]}
    assert found["door"].startswith("nix: ")
    assert str(checkout / ".venv") in found["python"]
    assert "from JAVA_HOME" in found["jdk"]
    assert "stub-jdk11_headless" in found["jdk"]
    assert "supervisorctl" in here.ok("develop", "#cpu", "-c", "which", "supervisorctl")

    try:
        here.ok("run", "#up", **settings, TORCH="cpu")
        vector = stack.embed(TEXT)
        assert vector.shape == (384,)
        assert abs(float(np.linalg.norm(vector)) - 1) < 1e-3
        shown = here.ok("develop", "#cpu", "-c", "embedkit", "embed", TEXT, "--json", **settings)
        np.testing.assert_allclose(json.loads(shown)["data"][0]["embedding"], vector, atol=1e-6)
    finally:
        here("run", "#down", **settings)
        left = stack.processes()
        for process in left:
            process.kill()
    assert left == []
