"""Taking packages from a lock: order, fallbacks, what pip and uv are told. pip itself is a recorder here; `.ci/run` on
a fresh clone runs the real one, `tests/nix` the real uv."""

from pathlib import Path

import pytest

from env import installer
from env.chooser import Choice, load_pins
from env.installer import Pip, SetupError, Uv, take_torch

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
    take_torch(pip, TORCH, CPU)
    assert len(pip.calls) == 1
    assert "--index-url" not in pip.calls[0]


def test_then_from_pytorchs_index_for_this_package_alone() -> None:
    """Elsewhere PyTorch's CPU index is asked, with one short try, since it may be out of reach."""
    pip = RecordingPip(False, True)
    take_torch(pip, TORCH, CPU)
    assert load_pins()["torch"]["cpu"]["index"] in pip.calls[1]
    assert "--retries" in pip.calls[1]


def test_a_machine_that_reaches_neither_is_told_so() -> None:
    """The error names the build, its hash, both places and two ways out."""
    with pytest.raises(SetupError, match=r"torch 2\.13\.0\+cpu .*neither.*PIP_FIND_LINKS.*TORCH=cuda13"):
        take_torch(RecordingPip(False, False), TORCH, CPU)


def test_a_cuda_torch_has_no_second_place() -> None:
    """The CUDA builds are on the package index: a failure there is pip's to explain."""
    pip = RecordingPip(False)
    with pytest.raises(SetupError, match="last lines"):
        take_torch(pip, TORCH, Choice("cuda12", "for the test"))
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


@pytest.mark.parametrize("kind", [Pip, Uv])
def test_a_bundles_wheels_are_the_only_place(kind: type[Pip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With env/wheels there, no index is asked, nor PyTorch's for torch."""
    monkeypatch.setattr(installer, "WHEELS", tmp_path)
    seen = tmp_path / "args"
    program = tmp_path / ("uv" if kind is Uv else "python")
    program.write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SetupError, match="has no torch of the cpu lock: export the TORCH"):
        take_torch(kind(program), TORCH, CPU)
    calls = seen.read_text().splitlines()
    assert len(calls) == 1
    assert f"--no-index --find-links {tmp_path}" in calls[0]


def test_uv_is_told_where_pip_looks() -> None:
    """A mirror named for pip in the environment holds for uv too, unless uv has one of its own."""
    mirror = {"PIP_INDEX_URL": "https://mirror/simple", "PIP_FIND_LINKS": "/wheels"}
    told = Uv(Path("python")).environment(mirror | {"UV_FIND_LINKS": "/other"})
    assert told["UV_DEFAULT_INDEX"] == "https://mirror/simple"
    assert told["UV_FIND_LINKS"] == "/other"


def test_another_installer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """INSTALLER is pip or uv; a uv that is not there is said."""
    with pytest.raises(SetupError, match="INSTALLER='poetry' is neither pip nor uv"):
        installer.installer(Path("python"), "poetry")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupError, match="no uv on PATH"):
        installer.installer(Path("python"), "uv")
