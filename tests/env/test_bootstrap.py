"""The set-up script: order, fallbacks, and what is said when something cannot be had. pip itself is a recorder here;
`.ci/run` on a fresh clone runs the real one."""

import subprocess
import sys
from pathlib import Path

import pytest

from env import bootstrap
from env.bootstrap import Pip, SetupError, Stamps, check_machine, create_venv, install_torch, only_one
from env.chooser import Choice, load_pins

CPU = Choice("cpu", "for the test")
TORCH = "torch==2.13.0+cpu \\\n    --hash=sha256:00\n"


class RecordingPip(Pip):
    """Answers each call as told and remembers its arguments."""

    def __init__(self, *answers: bool) -> None:
        super().__init__(Path("python"))
        self.answers, self.calls = list(answers), list[tuple[str, ...]]()

    def locked(self, entries: str, *args: str) -> bool:
        self.calls.append(args)
        return self.answers.pop(0)


def test_torch_comes_from_pips_own_settings_first() -> None:
    """Where pip's settings offer the pinned build, no other index is asked."""
    pip = RecordingPip(True)
    install_torch(pip, TORCH, CPU)
    assert len(pip.calls) == 1
    assert "--index-url" not in pip.calls[0]


def test_then_from_pytorchs_index_for_this_package_alone() -> None:
    """Elsewhere PyTorch's CPU index is asked, with one short try, since it may be out of reach."""
    pip = RecordingPip(False, True)
    install_torch(pip, TORCH, CPU)
    assert load_pins()["torch"]["cpu"]["index"] in pip.calls[1]
    assert "--retries" in pip.calls[1]


def test_a_machine_that_reaches_neither_is_told_so() -> None:
    """The error names the build, its hash, both places and two ways out."""
    with pytest.raises(SetupError, match=r"torch 2\.13\.0\+cpu .*neither.*PIP_FIND_LINKS.*TORCH=cuda13"):
        install_torch(RecordingPip(False, False), TORCH, CPU)


def test_a_cuda_torch_has_no_second_place() -> None:
    """The CUDA builds are on the package index: a failure there is pip's to explain."""
    pip = RecordingPip(False)
    with pytest.raises(SetupError, match="pip's last lines"):
        install_torch(pip, TORCH, Choice("cuda12", "for the test"))
    assert len(pip.calls) == 1


def test_what_would_put_packages_elsewhere_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip runs without PYTHONPATH and PIP_TARGET, and with the user's mirror settings."""
    seen = tmp_path / "env"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {seen}\n")
    python.chmod(0o755)
    for name in ("PYTHONPATH", "PIP_TARGET", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "somewhere")
    assert Pip(python).run("x")
    environ = seen.read_text()
    assert "PIP_INDEX_URL=somewhere" in environ
    assert "PIP_TARGET" not in environ
    assert "PYTHONPATH" not in environ


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
