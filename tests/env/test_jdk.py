"""Which Java is taken, on made-up and on real machines."""

import os
from pathlib import Path

import pytest

from env.jdk import PACKAGED, JdkError, find_jdk, java_version, packaged_java, parse_major


def fake_java(folder: Path) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    ("version", "major"),
    [("1.8.0_392", 8), ("11.0.30", 11), ("17.0.15", 17), ("21", 21), ("11-ea", 11), ("internal", 0), ("1", 1)],
)
def test_major_versions(version: str, major: int) -> None:
    """Old and new version schemes give the same kind of number."""
    assert parse_major(version) == major


def test_the_packaged_jdk_is_eleven_and_runs() -> None:
    """The lock's own JDK answers `java -version` with 11."""
    java = packaged_java()
    assert java is not None
    assert parse_major(java_version(java) or "0") == 11


def test_java_home_comes_first(tmp_path: Path) -> None:
    """JAVA_HOME wins over PATH, silently when it is 11."""
    home, other = fake_java(tmp_path / "home"), fake_java(tmp_path / "other")
    environ = {"JAVA_HOME": str(home.parent.parent), "PATH": str(other.parent)}
    found = find_jdk(environ, lambda java: "11.0.30" if java == home else "17.0.1")
    assert (found.java, found.note) == (home, "")


def test_a_bundles_jdk_comes_before_that_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JDK that a bundle brought is taken over one that happens to be on PATH."""
    carried, other = fake_java(tmp_path / "jdk"), fake_java(tmp_path / "other")
    monkeypatch.setattr("env.jdk.ENV_DIR", tmp_path)
    found = find_jdk({"PATH": str(other.parent)}, lambda _: "11.0.30")
    assert (found.java, found.origin) == (carried, "the bundle")


def test_the_pinned_release_comes_before_an_accepted_one(tmp_path: Path) -> None:
    """Java 17 on PATH gives way to the lock's JDK 11: a new environment is as the pins say. JAVA_HOME does not."""
    java = fake_java(tmp_path)

    def version(path: Path) -> str:
        return "17.0.15" if path == java else "11.0.13"

    assert find_jdk({"PATH": str(java.parent)}, version).origin == PACKAGED
    assert find_jdk({"JAVA_HOME": str(java.parent.parent), "PATH": ""}, version).java == java


def test_seventeen_on_path_is_taken_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java 17 runs TorchServe, so it is used where no JDK 11 is, and the note says what the kit is tested with."""
    monkeypatch.setattr("env.jdk.packaged_java", lambda: None)
    java = fake_java(tmp_path)
    found = find_jdk({"PATH": str(java.parent)}, lambda _: "17.0.15")
    assert found.major == 17
    assert "JDK 11" in found.note


def test_java_eight_on_path_gives_way_to_the_packaged_one(tmp_path: Path) -> None:
    """An unusable java on PATH is passed over for the packaged JDK 11, whose note says it is not for production."""
    java = fake_java(tmp_path)
    found = find_jdk({"PATH": str(java.parent)}, lambda path: "1.8.0_392" if path == java else "11.0.13")
    assert found.origin == PACKAGED
    assert "for trying and tests" in found.note


def test_an_unusable_java_home_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Somebody chose JAVA_HOME: what is wrong with it is said, nothing else is taken in silence."""
    with pytest.raises(JdkError, match=r"JAVA_HOME=.*cannot be run"):
        find_jdk({"JAVA_HOME": str(tmp_path), "PATH": os.environ["PATH"]})


def test_no_java_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Java the error says how to get one."""
    monkeypatch.setattr("env.jdk.packaged_java", lambda: None)
    with pytest.raises(JdkError, match="install a JDK 11 and set JAVA_HOME"):
        find_jdk({"PATH": ""})
