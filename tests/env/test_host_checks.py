"""The doctor's checks of the machine; tests/ops/test_doctor.py runs the commands that they name."""

import subprocess
from pathlib import Path

import pytest

from env import host_checks


@pytest.mark.parametrize("name", ["nonsense.invalid", "", "192.0.2.1"])
def test_an_address_of_another_machine_fails(name: str) -> None:
    """A host that does not resolve, or is not here, fails by name before TorchServe meets it."""
    found = host_checks.host(name)
    assert found.status == "fail"
    assert repr(name) in found.detail
    assert host_checks.host("127.0.0.1").status == "ok"


@pytest.mark.parametrize("name", ["0.0.0.0", "::", "::1", "127.0.0.9", "localhost"])
def test_addresses_of_this_machine_pass(name: str) -> None:
    """Those of loopback and all of them, IPv6 too."""
    assert host_checks.host(name, "gateway_host").status == "ok"


def test_few_files_fail_and_little_memory_is_a_note() -> None:
    """Open files have a bar; what the models need is judged by their placement, and little memory is only said."""
    assert host_checks.open_files(1024).status == "fail"
    assert (host_checks.memory(1 << 30, 0).status, host_checks.memory(3 << 30, 0).status) == ("note", "ok")
    assert host_checks.memory(3 << 30, 1 << 30).detail == "3.0 GB available, 1024 MB of it held by this kit"


def test_disk_looks_at_the_nearest_existing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is still to be made is judged by its parent; too little room fails with a figure."""
    assert host_checks.disk({"var": tmp_path / "not" / "yet"}).status == "ok"
    monkeypatch.setattr(host_checks, "LITTLE_DISK_BYTES", 1 << 60)
    found = host_checks.disk({"var": tmp_path})
    assert (found.status, "MB free" in found.detail) == ("note", True)
    monkeypatch.setattr(host_checks, "MIN_DISK_BYTES", 1 << 60)
    nowhere = host_checks.disk({"var": tmp_path})
    assert (nowhere.status, "no disk here has more" in nowhere.detail) == ("fail", True)


def test_a_var_that_moves_takes_its_state_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere without its keys the gateway would be open, and nobody would know what was served."""
    keys, roomy = tmp_path / "var" / "state" / "gateway-keys", tmp_path / "more room"
    keys.parent.mkdir(parents=True)
    keys.write_text("a key")
    monkeypatch.setattr(host_checks, "LITTLE_DISK_BYTES", 1 << 60)
    monkeypatch.setattr(host_checks, "MIN_DISK_BYTES", 1 << 60)
    monkeypatch.setattr(host_checks, "_roomy", lambda: roomy)
    fix = host_checks.disk({"var": tmp_path / "var"}).fix
    subprocess.run(["bash", "-c", f"make() {{ :; }}\n{fix}"], check=True)
    assert (roomy / "embedkit" / "var" / "state" / "gateway-keys").read_text() == "a key"
