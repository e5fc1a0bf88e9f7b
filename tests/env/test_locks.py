"""The hashed locks: what they hold, and how they are made. That drift is seen is shown in test_places.py."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from env.chooser import FLAVOURS, load_pins, lock_path
from env.lock import LockError, torch_cuda_dependencies, uv, with_cpu_torch
from env.requirements import packages_of, subset
from ops.settings import ROOT


def lock_of(flavour: str) -> str:
    return lock_path(flavour).read_text(encoding="utf-8")


@pytest.mark.parametrize("flavour", [*FLAVOURS, "dev"])
def test_every_package_is_pinned_by_hash(flavour: str) -> None:
    """Each entry has an exact version and at least one sha256: pip takes nothing else."""
    entries = re.split(r"\n(?=\S)", lock_of(flavour).strip())
    entries = [entry for entry in entries if not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_cpu_lock_takes_the_cpu_build_alone() -> None:
    """torch is the +cpu build with one hash, and nothing that only CUDA builds need, nor torchvision, is there."""
    lock = lock_of("cpu")
    pin = load_pins()["torch"]["cpu"]
    assert packages_of(lock)["torch"] == pin["version"]
    assert re.findall(r"sha256:(\w+)", subset(lock, {"torch"})) == [pin["sha256"]]
    only_cuda = [name for name in packages_of(lock) if re.match(r"(nvidia-(?!ml-py)|cuda-|triton|torchvision)", name)]
    assert only_cuda == []


def resolve(lock: Path, empty: Path) -> None:
    """Resolve a lock for an empty folder, hashes demanded, as pip does for conda; raises where a package is lacking."""
    into = ("--python", sys.executable, "--target", str(empty))
    uv(ROOT, "pip", "install", "--dry-run", "--require-hashes", *into, "-r", str(lock))


@pytest.mark.parametrize("flavour", ["cuda12", "cuda13"])
def test_the_cuda_locks_are_complete(flavour: str, tmp_path: Path) -> None:
    """A CUDA lock has all that its packages ask for, so that it installs with resolution on as well."""
    resolve(lock_path(flavour), tmp_path)


def test_a_cuda_lock_without_torchvision_would_not_be(tmp_path: Path) -> None:
    """sentence-transformers asks for it: the lock that lacks it is refused by name."""
    lock = lock_of("cuda12")
    (tmp_path / "lock.txt").write_text(lock.replace(subset(lock, {"torchvision"}), ""))
    with pytest.raises(LockError, match=r"no trusted hash was provided for:\s+`torchvision`"):
        resolve(tmp_path / "lock.txt", tmp_path / "empty")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_locks_hold_the_pins_of_pyproject(flavour: str) -> None:
    """Every exact pin of pyproject.toml stands in each lock with that version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = packages_of(lock_of(flavour))
    for requirement in project["dependencies"]:
        name, _, version = requirement.partition("==")
        assert locked[name] == version


def test_no_lock_names_a_folder() -> None:
    """Locks come from the package index alone: no path of any machine is in them."""
    for text in (*(lock_of(flavour) for flavour in (*FLAVOURS, "dev")), (ROOT / "uv.lock").read_text()):
        assert "file://" not in text
        assert "find-links" not in text


def test_torchs_cuda_needs_are_read_from_the_lock() -> None:
    """What is pruned for the CPU is torch's own CUDA needs, not nvidia-ml-py, which reads the driver."""
    needs = torch_cuda_dependencies((ROOT / "uv.lock").read_text())
    assert "triton" in needs
    assert "nvidia-ml-py" not in needs
    assert "sympy" not in needs


def test_another_torch_release_needs_another_cpu_pin() -> None:
    """A torch release raised in pyproject.toml and forgotten in pins.toml is an error that names both files."""
    exported = "torch==2.14.0 \\\n    --hash=sha256:aa\nzzz==1 \\\n    --hash=sha256:bb\n"
    with pytest.raises(LockError, match=r"pins\.toml pins torch 2\.13\.0\+cpu, pyproject\.toml torch 2\.14\.0"):
        with_cpu_torch(exported, "2.13.0+cpu", "00")
    made = with_cpu_torch(exported, "2.14.0+cpu", "00")
    assert made == "torch==2.14.0+cpu \\\n    --hash=sha256:00\nzzz==1 \\\n    --hash=sha256:bb\n"
