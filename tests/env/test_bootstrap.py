"""The set-up script: what is kept, what is built anew and what is refused. `.ci/run` on a fresh clone runs it whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from env import bootstrap
from env.bootstrap import Stamps, check_machine, create_venv, only_one
from env.chooser import Choice
from env.errors import PinError
from env.installer import SetupError
from ops.settings import ROOT

CPU = Choice("cpu", "for the test")


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A .venv of the test's own."""
    place = tmp_path / ".venv"
    monkeypatch.setattr(bootstrap, "VENV", place)
    monkeypatch.setattr(bootstrap, "serving", lambda: False)
    monkeypatch.setattr("venv.create", lambda path, **_: Path(path).mkdir(exist_ok=True))
    return place


def test_an_interrupted_run_goes_on_and_another_lock_starts_anew(
    venv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was half-made from this lock is kept; what came from another lock is not built upon."""
    stamps = Stamps(CPU)
    create_venv(CPU, stamps, repair=False)
    assert "creating" in capsys.readouterr().out
    create_venv(CPU, stamps, repair=False)
    assert "going on" in capsys.readouterr().out
    stamps.file("building").write_text("cuda12 other\n")
    create_venv(CPU, stamps, repair=False)
    assert "creating" in capsys.readouterr().out
    assert venv.is_dir()


def test_a_half_made_environment_is_never_current(venv: Path) -> None:
    """From the start of a build until its end no stamp says that it is done."""
    venv.mkdir()
    stamps = Stamps(CPU)
    stamps.done("lock")
    assert stamps.current("lock")
    stamps.start()
    assert not stamps.current("lock")


def test_the_environment_of_a_running_service_is_not_replaced(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the service up, a rebuild is refused with `make down`."""
    monkeypatch.setattr(bootstrap, "serving", lambda: True)
    with pytest.raises(SetupError, match="`make down` first"):
        create_venv(CPU, Stamps(CPU), repair=True)
    assert not venv.exists()


def test_too_little_disk_and_another_python_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are said before anything is downloaded, with figures and the way out."""
    monkeypatch.setattr(bootstrap, "FREE_BYTES", {"cpu": 1 << 60})
    with pytest.raises(SetupError, match="MB free below"):
        check_machine(CPU)
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    with pytest.raises(SetupError, match=r"make up PYTHON="):
        check_machine(CPU)


def test_a_python_without_tomllib_is_refused_too() -> None:
    """Pythons before 3.11 cannot import what reads the pins: they are told which one is needed, without a traceback."""
    old = "import runpy, sys; sys.modules['tomllib'] = None; runpy.run_module('env.bootstrap', run_name='__main__')"
    refused = subprocess.run([sys.executable, "-c", old], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("embedkit set-up: this is Python ")
    assert refused.stderr.endswith("make up PYTHON=/usr/bin/python3.11\n")


def test_a_slip_in_the_pins_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with env/pins.toml is printed, with exit status 1."""

    def slip() -> Choice:
        raise PinError("env/pins.toml: jdk.wanted is missing")

    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "chosen", slip)
    monkeypatch.setattr(sys, "argv", ["bootstrap"])
    assert bootstrap.main() == 1
    assert capsys.readouterr().err == "embedkit set-up: env/pins.toml: jdk.wanted is missing\n"


def test_two_set_ups_follow_each_other(tmp_path: Path) -> None:
    """The second waits for the first's lock and says so."""
    lock = tmp_path / "var" / "set-up.lock"
    script = (
        f"from pathlib import Path\nfrom env.bootstrap import only_one\nwith only_one(Path({str(lock)!r})): print('in')"
    )
    with only_one(lock):
        second = subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert "waiting for it" in second.stdout.readline()
    assert second.communicate(timeout=20)[0].strip() == "in"
    assert second.returncode == 0
