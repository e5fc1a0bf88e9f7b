"""Environments compared: made-up ones, this one with the pins, and files of `embedkit env show --json`."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from env.chooser import lock_path
from env.diff import Difference, differences, is_of, without
from env.errors import PinError
from env.jdk import packaged_java
from env.pins import read_pins
from env.requirements import packages_of
from env.state import State, pinned, read
from ops.settings import ROOT

PACKAGES = {"numpy": "2.4.6", "torch": "2.13.0+cpu"}
HERE = State("here", "venv", "cpu", "3.11.7", "11.0.13", None, PACKAGES)


def test_what_is_missing_added_and_different_is_named() -> None:
    """Each package that is not alike, and Python, the JDK and torch's build, with both sides."""
    there = State("there", "conda", "cuda13", "3.11.9", "17.0.1", "13.0", {"torch": "2.13.0", "triton": "3.5.0"})
    assert list(differences(HERE, there)) == [
        Difference("python", "different", "3.11.7", "3.11.9"),
        Difference("jdk", "different", "11.0.13", "17.0.1"),
        Difference("torch build", "different", "CPU", "CUDA 13.0"),
        Difference("numpy", "missing", "2.4.6", ""),
        Difference("torch", "different", "2.13.0+cpu", "2.13.0"),
        Difference("triton", "added", "", "3.5.0"),
    ]
    assert list(differences(HERE, replace(HERE, what="elsewhere", door="conda"))) == []


def test_pins_name_release_lines() -> None:
    """Against the pins 3.11.7 is 3.11 and 11.0.13 is 11; 3.12, 3.1 and 17 are not."""
    pins = State("the pins", "any", "cpu", "3.11", "11", None, PACKAGES)
    assert list(differences(pins, HERE, lines=True)) == []
    other = replace(HERE, python="3.12.1", jdk="17.0.1")
    assert [each.what for each in differences(pins, other, lines=True)] == ["python", "jdk"]
    assert not is_of("3.1", "3.11.7")


def test_development_tools_in_their_version_are_no_difference() -> None:
    """A tool as its lock has it is left out; in another version it stays in sight."""
    both = replace(HERE, packages={**PACKAGES, "ruff": "0.17.6", "mypy": "1.0"})
    assert without(both, {"ruff": "0.17.6", "mypy": "2.4.1"}).packages == {**PACKAGES, "mypy": "1.0"}


@pytest.mark.parametrize(
    ("flavour", "torch", "build"),
    [("cpu", "2.13.0+cpu", None), ("cuda13", "2.13.0", "13.0"), ("cuda12", "2.10.0", "12.8")],
)
def test_the_pins_of_a_flavour(flavour: str, torch: str, build: str | None) -> None:
    """What the pins say of an environment is its lock, with torch's build."""
    state = pinned(ROOT, read_pins(ROOT), flavour)
    assert (state.packages["torch"], state.torch_cuda) == (torch, build)


def embedkit(*words: str) -> subprocess.CompletedProcess[str]:
    """The command, on the packaged JDK 11."""
    java = packaged_java()
    assert java is not None
    command = [str(Path(sys.executable).with_name("embedkit")), "env", *words]
    environ = {"PATH": "/usr/bin:/bin", "JAVA_HOME": str(java.parent.parent)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_this_environment_is_as_its_pins(tmp_path: Path) -> None:
    """What `env show` writes of the real environment differs from the pins in nothing but development tools; changed,
    it differs in just that."""
    shown = embedkit("show", "--json").stdout
    (tmp_path / "a.json").write_text(shown)
    here = read(tmp_path / "a.json")
    pins = pinned(ROOT, read_pins(ROOT), "cpu")
    tools = packages_of(lock_path("dev").read_text(encoding="utf-8"))
    own = {name: version for name, version in tools.items() if name not in pins.packages}
    assert list(differences(pins, without(here, own), lines=True)) == []
    assert list(differences(pins, here, lines=True)) != []

    (tmp_path / "b.json").write_text(shown.replace('"2.13.0+cpu"', '"2.10.0"'))
    changed = embedkit("diff", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json")
    wanted = {"what": "torch", "kind": "different", "left": "2.13.0+cpu", "right": "2.10.0"}
    assert (changed.returncode, json.loads(changed.stdout)["differences"]) == (1, [wanted])


@pytest.mark.parametrize("text", ["", "[]", '{"python": "3.11"}', "no JSON"])
def test_another_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    """What `env show --json` did not write ends in a sentence, a missing file too."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(PinError, match=r"x\.json is not what `embedkit env show --json` writes"):
        read(tmp_path / "x.json")
    with pytest.raises(PinError, match="No such file"):
        read(tmp_path / "y.json")
