"""What a machine lacks is skipped by name and counted in a line, fails with CI=true, or is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ops.settings import ROOT
from tests import programs

LACKING = """
import pytest
from tests.programs import PACKAGES

PACKAGES["no-such-program"] = "its-package"
needs = pytest.mark.needs

@needs("no-such-program")
def test_of_a_program(): ...

@needs("no-such-program")
def test_of_another(): ...

def test_of_none(): ...
"""


def run(folder: Path, text: str, ci: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest, with the project's conftest.py, on a file of tests."""
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = needs(*names)\n")
    command = [sys.executable, "-m", "pytest", "-ra", "--strict-markers", "-p", "tests.conftest", *options]
    environ = os.environ | {"CI": ci, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [(), ("-n", "2", "--dist", "loadfile")])
def test_what_is_lacking_is_skipped_by_name_and_counted(options: tuple[str, ...], tmp_path: Path) -> None:
    """Each skip names program and package, and one line at the end counts them, in one process or two."""
    done = run(tmp_path, LACKING, "", *options)
    assert done.returncode == 0, done.stdout
    skip = r"^SKIPPED .*test_it.py:\d+: needs no-such-program \(its-package\)$"
    assert len(re.findall(skip, done.stdout, re.MULTILINE)) == 2
    *_, line, last = done.stdout.splitlines()
    assert line == "not proven here, for want of no-such-program (its-package): 2 tests"
    assert "1 passed, 2 skipped" in last


def test_with_ci_what_is_lacking_fails(tmp_path: Path) -> None:
    """With CI=true the same tests do not pass for skipped."""
    done = run(tmp_path, LACKING, ci="true")
    assert done.returncode == 1
    assert "1 passed, 2 errors" in done.stdout
    assert "needs no-such-program (its-package), and with CI=true" in done.stdout


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    """A name without a package is no reason to skip: it ends the run with where to put it."""
    done = run(tmp_path, LACKING.replace('PACKAGES["no', 'PACKAGES["other'), ci="")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "needs('no-such-program'): add its Debian package to tests/programs.py" in done.stderr


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_without_root_nothing_is_installed(
    ci: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An ordinary user is told what is lacking and the command that root would use; CI stops there."""
    monkeypatch.setitem(programs.PACKAGES, "no-such-program", "its-package")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("CI", ci)
    assert programs.main(["no-such-program", "sh"]) == status
    said = capsys.readouterr().err
    assert "not here: no-such-program." in said
    assert said.endswith("apt-get install its-package\n")
