"""Packing costs about what copying and hashing cost."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from archives.catalogue import ModelSpec
from archives.fetch import fetch
from archives.pack import pack
from tests.archives.conftest import LAYOUT, LOCK

ALLOWED = 1.3
BYTES = 400 << 20  # of random weights: nothing that could be compressed


@pytest.mark.slow
def test_speed(tiny_folder: Path, tmp_path: Path) -> None:
    """The best of three packs takes at most 1.3 times the best of three `cp` + `sha256sum` of the same folder."""
    folder, copy = tmp_path / "model", tmp_path / "copy"
    shutil.copytree(tiny_folder, folder)
    block = os.urandom(8 << 20)
    with (folder / "model.safetensors").open("wb") as file:
        for _ in range(BYTES // len(block)):
            file.write(block)
    spec = ModelSpec.model_validate(
        {"name": "big", "source": {"folder": folder}, "backend": "torch", "dtype": "float32"}
    )
    snapshot = fetch(spec, tmp_path / "store")
    plain, ours = [], []
    for _ in range(3):
        shutil.rmtree(copy, ignore_errors=True)
        started = time.perf_counter()
        subprocess.run(["cp", "-r", folder, copy], check=True)
        files = [path for path in folder.rglob("*") if path.is_file()]
        subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)
        plain.append(time.perf_counter() - started)
        started = time.perf_counter()
        pack(spec, snapshot, LAYOUT, tmp_path / "store", lock=LOCK, anew=True)
        ours.append(time.perf_counter() - started)
    for each in (folder, copy, tmp_path / "store"):
        shutil.rmtree(each)  # pytest would keep the gigabyte
    assert min(ours) <= ALLOWED * min(plain), f"pack {ours}, cp + sha256sum {plain}"
