"""Which door an environment was entered by, on made-up environments and on this one."""

import os
import sys
from pathlib import Path

import pytest

from env.checks import entered_by
from env.chooser import Choice
from env.door import door, in_conda
from ops.settings import ROOT, load_settings

KIT = Path("/srv/kit")
CONDA = {"CONDA_PREFIX": "/opt/conda/envs/embedkit", "CONDA_DEFAULT_ENV": "embedkit", "EMBEDKIT_DOOR": "conda"}


@pytest.mark.parametrize(
    ("environ", "prefix", "name"),
    [
        ({}, "/srv/kit/.venv", "venv"),
        ({"CONDA_PREFIX": "/opt/conda"}, "/srv/kit/.venv", "venv"),
        ({"IN_NIX_SHELL": "impure"}, "/srv/kit/.venv", "venv"),
        (CONDA, "/opt/conda/envs/embedkit", "conda"),
        (CONDA, "/srv/kit/.venv", "venv"),
        ({"CONDA_PREFIX": "/opt/conda"}, "/opt/conda", "none"),
        ({"EMBEDKIT_DOOR": "nix", "IN_NIX_SHELL": "impure"}, "/srv/kit/.venv", "nix"),
        ({"EMBEDKIT_DOOR": "nix", "IN_NIX_SHELL": "impure"}, "/usr", "none"),
        ({"EMBEDKIT_DOOR": "container"}, "/srv/kit/.venv", "container"),
        ({"EMBEDKIT_DOOR": "container"}, "/usr", "none"),
        ({}, "/usr", "none"),
    ],
)
def test_the_door_is_known(environ: dict[str, str], prefix: str, name: str) -> None:
    """The mark decides, checked against where Python runs: an environment that is active but not used is no door."""
    assert name == door(environ, Path(prefix), KIT).name


def test_a_bundles_wheels_are_a_door(tmp_path: Path) -> None:
    """Where env/wheels is, the set-up takes packages from it alone: that is the bundle, but in the other doors."""
    (tmp_path / "env" / "wheels").mkdir(parents=True)
    assert door({}, tmp_path / ".venv", tmp_path).name == "bundle"
    assert door({"EMBEDKIT_DOOR": "container"}, tmp_path / ".venv", tmp_path).name == "container"


def test_conda_is_where_python_runs() -> None:
    """The set-up finishes conda's environment only from its own Python, and only if the kit's file made it."""
    prefix = Path("/opt/conda/envs/embedkit")
    assert in_conda(CONDA, prefix)
    assert not in_conda(CONDA, KIT / ".venv")
    assert not in_conda({"CONDA_PREFIX": str(prefix)}, prefix)


def test_this_environment_came_through_pips_door() -> None:
    """`make dev` has built what the tests run in."""
    outside = {key: value for key, value in os.environ.items() if key != "EMBEDKIT_DOOR"}
    assert door(outside, Path(sys.prefix), ROOT).name == "venv"


def test_the_doctor_names_door_and_lock() -> None:
    """One line with both; a Python that came through no door is a note that lists the doors."""
    choice = Choice("cuda13", "TORCH=cuda13 says so")
    named = entered_by(door(CONDA, Path("/opt/conda/envs/embedkit"), KIT), choice)
    assert named.status == "ok"
    assert named.detail == "conda: the conda environment embedkit, lock cuda13 (TORCH=cuda13 says so)"
    outside = entered_by(door({}, Path("/usr"), KIT), choice)
    assert (outside.status, "nix develop, conda, make up" in outside.detail) == ("note", True)


def test_the_mark_is_no_setting() -> None:
    """EMBEDKIT_DOOR in the environment does not stop a command that reads settings."""
    assert load_settings(environ={"EMBEDKIT_DOOR": "conda"}) == load_settings(environ={})
