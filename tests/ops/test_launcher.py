"""What the launcher says in its log where it cannot become the JVM."""

import errno
import os
import sys
from pathlib import Path

import pytest

from ops.settings import Settings
from ops.torchserve import confine, launcher
from ops.up import write_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As supervisord would start it, up to the JVM itself."""

    def became(*_: object) -> None:
        raise AssertionError("it became the JVM")

    made = Settings(var=tmp_path)
    write_settings(made)
    monkeypatch.setattr(sys, "argv", ["launcher", str(made.file)])
    monkeypatch.setattr(launcher, "prepare", lambda *_, **__: ["java"])
    monkeypatch.setattr(launcher, "become", became)
    monkeypatch.setattr(confine, "version", lambda: 1)
    monkeypatch.setattr(confine, "forbid_links", lambda: None)
    monkeypatch.setattr(os, "chdir", lambda _: None)
    return made


def test_a_refused_landlock_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kernel that has it and a sandbox that forbids it: one line with the reason and the next step, and no JVM."""

    def refused() -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(confine, "forbid_links", refused)
    assert launcher.main() == 1
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "Operation not permitted" in said
    assert "allow landlock_add_rule and landlock_restrict_self, then `embedkit up`" in said


def test_a_folder_that_cannot_be_made_is_told(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """The path and what to do, without a traceback."""
    settings.run.parent.mkdir(parents=True, exist_ok=True)
    settings.run.touch()
    assert launcher.main() == 1
    said = capsys.readouterr().out
    assert str(settings.run) in said
    assert said.endswith("mend that, then `embedkit up`\n")
