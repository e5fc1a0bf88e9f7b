"""The choice on a machine whose GPU torch cannot use, and what of a choice is kept."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pynvml
import pytest
import torch
from typer.testing import CliRunner

from archives import resolve as resolving
from archives.archive import read_archive, read_config
from archives.candidates import _CPU, BARS
from archives.catalogue import ModelSpec
from archives.errors import PackError
from archives.fetch import fetch
from archives.placement import Layout, layout
from archives.progress import Progress
from archives.trial import is_passing
from env.hardware import detect
from ops.cli import app
from ops.prepare import prepare
from ops.settings import Settings
from tests.archives.conftest import LAYOUT
from tests.handlers.conftest import needs_openvino

ROOT = Path(__file__).parents[2]
needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="torch has a GPU here")


class Saying(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def named(folder: Path, **values: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": "tiny", "source": {"folder": folder}, **values})


@pytest.fixture
def gpu_for_nvml_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML tells of a GPU that torch cannot use, by the words of a build that could: what an old driver comes to."""
    monkeypatch.setattr("env.hardware._cpu_build", lambda: False)
    memory = SimpleNamespace(total=80 << 30, free=77 << 30)
    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
        "nvmlDeviceGetName": lambda handle: "NVIDIA L4",
        "nvmlDeviceGetMemoryInfo": lambda handle: memory,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@needs_no_cuda
@needs_openvino
def test_a_gpu_that_torch_cannot_use(tiny_folder: Path, tmp_path: Path, gpu_for_nvml_alone: None) -> None:
    """`auto` comes to the CPU's own candidates and layout; archive, card and figures say so, why is told, and the
    archive loads.
    """
    settings, hardware = Settings(store=tmp_path, var=tmp_path / "var"), detect()
    spec = named(tiny_folder)
    assert layout(spec, hardware).on_gpu
    saying = Saying()

    made = prepare(spec, settings, hardware, saying)

    archive = read_archive(tmp_path / "tiny-1.0.mar")
    config = read_config(archive.path)
    assert (archive.card.backend, archive.card.device) == ("openvino", "cpu")
    assert (archive.manifest["engine"]["device"], archive.manifest["engine"]["tried"][0]["device"]) == ("cpu", "cpu")
    assert (config["deviceType"], config["minWorkers"]) == ("cpu", hardware.cores)
    assert archive.card.threads == 1
    assert not made.need.on_gpu
    assert "CPU build" in archive.card.decision
    assert any("CPU build" in line for line in saying.lines)
    said = len(saying.lines)
    again = prepare(spec, settings, hardware, saying)
    assert again.served == made.served
    assert not any("openvino" in line for line in saying.lines[said:])  # chosen once


@needs_no_cuda
def test_a_gpu_that_is_asked_for(tiny_folder: Path, tmp_path: Path, gpu_for_nvml_alone: None) -> None:
    """device = "cuda" without a GPU that torch can use is an error that says what is missing, and nothing is kept."""
    settings = Settings(store=tmp_path, var=tmp_path / "var")

    with pytest.raises(
        PackError, match=r"^tiny: no backend can be tried: .*device = 'cuda', but .*CPU build"
    ) as caught:
        prepare(named(tiny_folder, device="cuda"), settings, detect(), Progress())

    assert "cosine" not in str(caught.value)
    assert list(tmp_path.glob("*.mar")) == []
    assert not (tmp_path / "engines").exists()


@needs_openvino
def test_what_the_choice_depends_on(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads, another budget, another bar or order are not answered from what is kept; other workers are."""
    spec = named(tiny_folder)
    snapshot = fetch(spec, tmp_path)
    resolving.resolve(spec, snapshot, tmp_path, LAYOUT, progress=Progress())

    def known(spec: ModelSpec, layout: Layout = LAYOUT) -> bool:
        return resolving.known(spec, snapshot, tmp_path, layout) is not None

    assert known(spec)
    assert known(spec, Layout(workers=7, threads=1, on_gpu=False))
    assert not known(spec, Layout(workers=2, threads=2, on_gpu=False))
    assert not known(spec.model_copy(update={"token_budget": 512}))
    for name, value in (
        ("archives.resolve.BARS", {**BARS, "float32": 0.9}),
        ("archives.candidates._CPU", tuple(reversed(_CPU))),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(name, value)
            assert not known(spec)
    assert known(spec)


@needs_openvino
def test_a_candidate_that_found_no_room(tiny_folder: Path, tmp_path: Path) -> None:
    """OpenVINO's file could not be written, as on a full disk: the next candidate is taken, which is told, and once
    there is room the next pack takes OpenVINO.
    """
    spec = named(tiny_folder)
    script = f"""
import resource, signal
from tests.archives.test_choice import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
spec, store, saying = ModelSpec.model_validate_json({spec.model_dump_json()!r}), Path({str(tmp_path)!r}), Saying()
found = resolving.resolve(spec, fetch(spec, store), store, LAYOUT, progress=saying)
print(found.backend, "no room (memory, disk) is tried again" in saying.lines[-1])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("torch True\n", 0), done.stderr
    snapshot = fetch(spec, tmp_path)
    assert resolving.known(spec, snapshot, tmp_path, LAYOUT) is None
    assert resolving.resolve(spec, snapshot, tmp_path, LAYOUT, progress=Progress()).backend == "openvino"


def failure(act: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is the library's choice
        act()
    return caught.value


def test_which_failures_pass() -> None:
    """A lack of memory or room is the moment's, however a library tells it; anything else is the model's."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    wrapped = RuntimeError("cannot load it")
    wrapped.__cause__ = full
    for error in (
        failure(lambda: np.empty(1 << 60, np.uint8)),
        failure(lambda: torch.empty(1 << 60, dtype=torch.uint8)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        full,
        wrapped,
    ):
        assert is_passing(error), repr(error)
    for error in (failure(lambda: torch.ones(2) @ torch.ones(3)), ValueError("no"), FileNotFoundError(2, "no file")):
        assert not is_passing(error), repr(error)


def test_pack_anew(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the flag nothing is tried again; with it backend and dtype are chosen and the archive is written anew,
    to the same bytes.
    """
    (tmp_path / "models.toml").write_text(f'[tiny]\nsource = {{ folder = "{tiny_folder}" }}\nbackend = "torch"\n')
    for key, value in {"MODELS_FILE": tmp_path / "models.toml", "STORE": tmp_path, "VAR": tmp_path / "var"}.items():
        monkeypatch.setenv(f"EMBEDKIT_{key}", str(value))

    def pack(*flags: str) -> tuple[dict[str, Any], str, int]:
        done = CliRunner().invoke(app, ["pack", "tiny", "--json", *flags])
        assert done.exit_code == 0, done.stderr
        decision = next((tmp_path / "engines" / "tiny").glob("*/decision.json"))
        return orjson.loads(done.stdout), done.stderr, decision.stat().st_ino

    first, said, inode = pack()
    assert (first["changed"], "choosing among" in said) == (True, True)
    again, said, same = pack()
    assert (again, "choosing among" in said, same) == (first | {"changed": False}, False, inode)
    anew, said, another = pack("--anew")
    assert (anew, "choosing among" in said, another != inode) == (first, True, True)
