"""The doctor's checks: each failure is caught and comes with the command that mends it."""

import base64
import hashlib
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from env import checks
from env.chooser import Choice
from env.door import Door, Name
from env.hardware import Gpu, Hardware
from env.requirements import installed_versions

CPU = Choice("cpu", "for the test")
REPAIR = "make repair"
LOCKED = {canonicalize_name(name): version for name, version in checks.locked_packages(CPU).items()}


def test_this_environment_is_the_lock() -> None:
    """What is installed here is what the cpu lock says, package by package."""
    assert checks.lock_matches(CPU, installed_versions(), REPAIR).status == "ok"


def test_a_wrong_huggingface_hub_is_named() -> None:
    """huggingface-hub 0.26, which breaks sentence-transformers 2.2.2, fails with both versions and the mend."""
    found = checks.lock_matches(CPU, LOCKED | {"huggingface-hub": "0.26.0"}, REPAIR)
    assert found.status == "fail"
    assert "huggingface-hub is 0.26.0, locked 0.25.2" in found.detail
    assert found.fix == "make repair"


def test_a_missing_package_is_named() -> None:
    """A package that was uninstalled is named."""
    found = checks.lock_matches(CPU, {name: version for name, version in LOCKED.items() if name != "torch"}, REPAIR)
    assert "torch 2.13.0+cpu is not installed" in found.detail


def test_a_package_whose_metadata_was_cut_off_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full disk or a killed pip left without METADATA is named by the lock's check, as missing."""
    (tmp_path / "torch-2.13.0+cpu.dist-info").mkdir()
    (tmp_path / "requests-2.34.2.dist-info").mkdir()
    (tmp_path / "requests-2.34.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: requests\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_versions() == {}
    rest = {name: version for name, version in LOCKED.items() if name != "torch"}
    found = checks.lock_matches(CPU, rest | installed_versions(), REPAIR)
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
    assert checks.unchanged_since_install(["tiny"], REPAIR).status == "ok"
    module.write_text("x = 2\n")
    found = checks.unchanged_since_install(["tiny"], REPAIR)
    assert found.status == "fail"
    assert "tiny was changed" in found.detail
    assert str(module) in found.detail
    assert found.fix == "make repair"


def torch(
    driver: str | None, build: tuple[str, str | None, str], here: str = "cpu", *, asked: bool = False
) -> checks.Finding:
    """The finding on a machine with this driver and a GPU, in an environment of this lock."""
    gpu = Gpu(0, "GPU-1", "NVIDIA L4", 24 << 30, 23 << 30)
    hardware = Hardware(8, 64 << 30, (gpu,) if build[1] else (), driver, () if build[1] else (gpu,))
    if driver is None:
        hardware = Hardware(2, 16 << 30)
    return checks.torch_build(hardware, build, Choice(here, "for the test", asked), "TORCH={} make repair".format)


CPU_TORCH = ("2.13.0+cpu", None, "")
# What torch says on such machines, as it is reported.
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 12080). Please update your GPU driver"
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"
UNKNOWN = "CUDA unknown error - this may be due to an incorrectly set up environment"


@pytest.mark.parametrize(
    ("driver", "build", "here", "fix"),
    [
        ("580.65.06", CPU_TORCH, "cpu", "TORCH=cuda13 make repair"),
        ("550.54.15", CPU_TORCH, "cpu", "TORCH=cuda12 make repair"),
        ("550.54.15", ("2.13.0", "13.0", OLD_DRIVER), "cuda13", "TORCH=cuda12 make repair"),
        ("470.256.02", ("2.13.0", "13.0", OLD_DRIVER), "cuda13", "TORCH=cpu make repair"),
        ("470.256.02", ("2.10.0", "12.8", OLD_DRIVER), "cuda12", "TORCH=cpu make repair"),
        ("580.65.06", ("2.13.0", "13.0", NO_KERNEL), "cuda13", "TORCH=cuda12 make repair"),
        ("580.65.06", ("2.13.0", "13.0", UNKNOWN), "cuda13", "TORCH=cpu make repair"),
        ("580.65.06", ("unknown", None, checks.TOO_LONG), "cuda13", "TORCH=cpu make repair"),
        (None, ("unknown", None, "ImportError: libtorch"), "cuda13", "TORCH=cuda13 make repair"),
    ],
)
def test_a_torch_that_does_not_fit_names_the_lock_that_does(
    driver: str | None, build: tuple[str, str | None, str], here: str, fix: str
) -> None:
    """Never the same lock again, unless it is only torch's files that are wrong; the fault is in the line."""
    found = torch(driver, build, here)
    assert (found.status, found.fix) == ("fail", fix)
    assert build[2] in found.detail
    assert build[0] == "unknown" or (driver or "") in found.detail


@pytest.mark.parametrize(
    ("driver", "build", "asked", "status", "words"),
    [
        (None, CPU_TORCH, False, "ok", "no NVIDIA driver here"),
        (None, ("2.13.0", "13.0", "no driver"), False, "note", "computing on the CPU"),
        ("580.65.06", ("2.13.0", "13.0", ""), False, "ok", "NVIDIA L4"),
        ("580.65.06", CPU_TORCH, True, "note", "beside NVIDIA driver 580.65.06 and NVIDIA L4, as TORCH=cpu asked"),
        ("470.256.02", CPU_TORCH, False, "note", "too old for any CUDA build here (cuda12 needs 525): update it"),
    ],
)
def test_what_cannot_be_better_or_was_asked_for_is_no_failure(
    driver: str | None, build: tuple[str, str | None, str], asked: bool, status: str, words: str
) -> None:
    """A build that fits passes; TORCH=cpu beside a GPU and a driver that runs no CUDA build here are notes."""
    found = torch(driver, build, asked=asked)
    assert (found.status, words in found.detail) == (status, True), found


def test_a_mask_is_named_before_torch_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an empty CUDA_VISIBLE_DEVICES hides the GPUs: it is what has to go."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = torch("580.65.06", ("2.13.0", "13.0", "No CUDA GPUs are available"), "cuda13")
    assert (found.status, found.fix) == ("fail", "unset CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("door", "flavour", "words"),
    [
        ("venv", "cpu", "make repair"),
        ("nix", "cuda12", "TORCH=cuda12 make repair"),
        ("container", "cpu", "docker rm -f "),
        ("conda", "cuda13", "conda env create -f env/environment.yml && conda activate embedkit && make env"),
        ("conda", "cpu", "PIP_NO_DEPS=1 conda env create -f env/environment-cpu.yml"),
    ],
)
def test_each_door_has_its_own_repair(door: Name, flavour: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the door that made the environment, for the flavour that is to be; `make down` comes first where it serves."""
    monkeypatch.setattr(checks, "chosen", lambda: CPU)
    monkeypatch.setattr(checks, "serving", lambda: False)
    command = checks.repair_by(Door(door, "for the test"), Path("/opt/an environment"))
    assert words in command(flavour)
    assert command(flavour).startswith(words) or door == "conda"
    monkeypatch.setattr(checks, "serving", lambda: True)
    assert command(flavour).startswith("make down && ") or door == "container"


def test_a_failure_without_a_command_cannot_be_made() -> None:
    """Whoever adds a check is told at its first failure."""
    with pytest.raises(AssertionError, match="nothing fails without a command"):
        checks.Finding("nothing", "fail", "wrong")


def test_the_real_torch_answers() -> None:
    """The probe of torch, run for real, gives this environment's build."""
    version, cuda, trouble = checks.probe_torch()
    assert (version, cuda, trouble) == ("2.13.0+cpu", None, "")


def test_a_missing_jdk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Java the lock's is named; a bad JAVA_HOME is to be unset, which is enough if there is another."""
    monkeypatch.setattr("env.jdk.packaged_java", lambda: None)
    assert checks.jdk({"PATH": ""}, REPAIR).fix == REPAIR
    assert checks.jdk({"PATH": "", "JAVA_HOME": "/nowhere"}, REPAIR).fix == f"unset JAVA_HOME && {REPAIR}"
    monkeypatch.undo()
    assert checks.jdk({"PATH": "", "JAVA_HOME": "/nowhere"}, REPAIR).fix == "unset JAVA_HOME"


def test_training_versions_are_compared() -> None:
    """A model trained with other versions is a note that names both sides; none recorded is said too."""
    installed = {"sentence-transformers": "2.2.2", "transformers": "4.48.3", "torch": "2.13.0+cpu"}
    found = checks.trained_with("bge", {"transformers": "4.28.1", "sentence_transformers": "2.2.2"}, installed)
    assert found.status == "note"
    assert found.detail == "transformers 4.48.3 here, 4.28.1 at training"
    assert checks.trained_with("bge", {"sentence_transformers": "2.2.2"}, installed).status == "ok"
    assert checks.trained_with("bge", {}, installed).status == "note"


def test_the_interpreter_passes() -> None:
    """The tests run on the pinned Python; with another one the set-up is told which to take."""
    assert checks.python_version((sys.version_info.major, sys.version_info.minor), REPAIR).status == "ok"
    assert checks.python_version((3, 12), f"make down && {REPAIR}").fix == f"make down && {REPAIR} PYTHON=python3.11"


def test_a_vendored_copy_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second copy of a package further down sys.path, as setuptools brings along, does not count."""
    vendored = tmp_path / "packaging-1.0.dist-info"
    vendored.mkdir()
    (vendored / "METADATA").write_text("Metadata-Version: 2.1\nName: packaging\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert installed_versions().get("packaging") == LOCKED[canonicalize_name("packaging")]
