"""The doctor's checks: each failure is caught and comes with the command that mends it."""

import base64
import hashlib
import socket
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from env import checks
from env.chooser import Choice
from env.hardware import Gpu, Hardware
from env.requirements import installed_versions

CPU = Choice("cpu", "for the test")
LOCKED = {canonicalize_name(name): version for name, version in checks.locked_packages(CPU).items()}
GPU_MACHINE = Hardware(8, 64 << 30, (Gpu(0, "GPU-1", "NVIDIA L4", 24 << 30, 23 << 30),), driver="580.65.06")
CPU_MACHINE = Hardware(2, 16 << 30)


def test_this_environment_is_the_lock() -> None:
    """What is installed here is what the cpu lock says, package by package."""
    assert checks.lock_matches(CPU, installed_versions()).status == "ok"


def test_a_wrong_huggingface_hub_is_named() -> None:
    """huggingface-hub 0.26, which breaks sentence-transformers 2.2.2, fails with both versions and the mend."""
    found = checks.lock_matches(CPU, LOCKED | {"huggingface-hub": "0.26.0"})
    assert found.status == "fail"
    assert "huggingface-hub is 0.26.0, locked 0.25.2" in found.detail
    assert found.fix == "make repair"


def test_a_missing_package_is_named() -> None:
    """A package that was uninstalled is named."""
    found = checks.lock_matches(CPU, {name: version for name, version in LOCKED.items() if name != "torch"})
    assert "torch 2.13.0+cpu is not installed" in found.detail


def test_a_package_whose_metadata_was_cut_off_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full disk or a killed pip left without METADATA is named by the lock's check, as missing."""
    (tmp_path / "torch-2.13.0+cpu.dist-info").mkdir()
    (tmp_path / "requests-2.34.2.dist-info").mkdir()
    (tmp_path / "requests-2.34.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: requests\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_versions() == {}
    rest = {name: version for name, version in LOCKED.items() if name != "torch"}
    found = checks.lock_matches(CPU, rest | installed_versions())
    assert found.detail == "torch 2.13.0+cpu is not installed"


def make_distribution(site: Path) -> Path:
    """A tiny installed package with a RECORD, as pip writes it; returns its one module."""
    info = site / "tiny-1.0.dist-info"
    info.mkdir(parents=True)
    module = site / "tiny.py"
    module.write_text("x = 1\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(module.read_bytes()).digest()).rstrip(b"=").decode()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"tiny.py,sha256={digest},6\ntiny-1.0.dist-info/RECORD,,\n")
    return module


def test_a_package_changed_after_install_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte changed in an installed file fails the check, which names package and file."""
    module = make_distribution(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert checks.unchanged_since_install(["tiny"]).status == "ok"
    module.write_text("x = 2\n")
    found = checks.unchanged_since_install(["tiny"])
    assert found.status == "fail"
    assert "tiny was changed" in found.detail
    assert str(module) in found.detail
    assert found.fix == "make repair"


def test_a_cpu_torch_beside_a_gpu_fails() -> None:
    """The silent kind of slow: a GPU and a driver are there and torch cannot use them."""
    found = checks.torch_build(GPU_MACHINE, ("2.13.0+cpu", None, ""))
    assert found.status == "fail"
    assert "CPU build beside NVIDIA driver 580.65.06 and NVIDIA L4" in found.detail
    assert found.fix == "make repair"


def test_a_gpu_that_cannot_be_used_says_why() -> None:
    """CUDA's own words reach the operator."""
    found = checks.torch_build(GPU_MACHINE, ("2.13.0", "13.0", "CUDA driver version is insufficient"))
    assert found.status == "fail"
    assert "CUDA driver version is insufficient" in found.detail


@pytest.mark.parametrize(
    ("machine", "build", "status"),
    [
        (CPU_MACHINE, ("2.13.0+cpu", None, ""), "ok"),
        (GPU_MACHINE, ("2.13.0", "13.0", ""), "ok"),
        (CPU_MACHINE, ("2.13.0", "13.0", "no driver"), "note"),
        (CPU_MACHINE, ("unknown", None, "ImportError: libtorch"), "fail"),
    ],
)
def test_fitting_builds_pass(machine: Hardware, build: tuple[str, str | None, str], status: str) -> None:
    """A build that fits its machine passes; a CUDA build without a GPU is a note; a torch that cannot load fails."""
    assert checks.torch_build(machine, build).status == status


def test_the_real_torch_answers() -> None:
    """The probe of torch, run for real, gives this environment's build."""
    version, cuda, trouble = checks.probe_torch()
    assert (version, cuda, trouble) == ("2.13.0+cpu", None, "")


def test_a_taken_port_is_named() -> None:
    """A port with a foreign listener fails by name and number, unless the kit itself runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = checks.ports({"inference": port}, "127.0.0.1", ours=False)
        assert found.status == "fail"
        assert f"inference {port}" in found.detail
        assert found.fix.startswith("EMBEDKIT_INFERENCE_PORT=")
        assert checks.ports({"inference": port}, "127.0.0.1", ours=True).status == "ok"
    assert checks.ports({"inference": port}, "127.0.0.1", ours=False).status == "ok"


@pytest.mark.parametrize("name", ["nonsense.invalid", "", "192.0.2.1"])
def test_an_address_of_another_machine_fails(name: str) -> None:
    """A host that does not resolve, or is not here, fails by name before TorchServe meets it."""
    found = checks.host(name)
    assert found.status == "fail"
    assert repr(name) in found.detail
    assert checks.host("127.0.0.1").status == "ok"


def test_a_missing_jdk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Java the doctor fails; with an unusable JAVA_HOME it says to unset it."""
    monkeypatch.setattr("env.jdk.packaged_java", lambda: None)
    assert checks.jdk({"PATH": ""}).status == "fail"
    found = checks.jdk({"PATH": "", "JAVA_HOME": "/nowhere"})
    assert (found.status, found.fix) == ("fail", "unset JAVA_HOME")


def test_little_memory_few_files_and_a_wrong_python_fail() -> None:
    """Each limit has a bar and a mend."""
    for found in (checks.memory(1 << 30), checks.open_files(1024), checks.python_version((3, 12))):
        assert found.status == "fail"
        assert found.fix


def test_disk_looks_at_the_nearest_existing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is still to be made is judged by its parent; too little room fails with a figure."""
    assert checks.disk([tmp_path / "not" / "yet"]).status == "ok"
    monkeypatch.setattr(checks, "LITTLE_DISK_BYTES", 1 << 60)
    found = checks.disk([tmp_path])
    assert (found.status, "MB free" in found.detail) == ("note", True)
    monkeypatch.setattr(checks, "MIN_DISK_BYTES", 1 << 60)
    assert checks.disk([tmp_path]).status == "fail"


def test_training_versions_are_compared() -> None:
    """A model trained with other versions is a note that names both sides; none recorded is said too."""
    installed = {"sentence-transformers": "2.2.2", "transformers": "4.48.3", "torch": "2.13.0+cpu"}
    found = checks.trained_with("bge", {"transformers": "4.28.1", "sentence_transformers": "2.2.2"}, installed)
    assert found.status == "note"
    assert found.detail == "transformers 4.48.3 here, 4.28.1 at training"
    assert checks.trained_with("bge", {"sentence_transformers": "2.2.2"}, installed).status == "ok"
    assert checks.trained_with("bge", {}, installed).status == "note"


def test_the_interpreter_passes() -> None:
    """The tests run on the pinned Python."""
    assert checks.python_version((sys.version_info.major, sys.version_info.minor)).status == "ok"


def test_a_vendored_copy_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second copy of a package further down sys.path, as setuptools brings along, does not count."""
    vendored = tmp_path / "packaging-1.0.dist-info"
    vendored.mkdir()
    (vendored / "METADATA").write_text("Metadata-Version: 2.1\nName: packaging\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert installed_versions().get("packaging") == LOCKED[canonicalize_name("packaging")]
