"""What a benchmark ran on: without it, its figures say nothing."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from env.hardware import Hardware
from env.jdk import JdkError, find_jdk
from ops.settings import ROOT

PACKAGES = (
    "embedkit", "torch", "transformers", "sentence-transformers", "tokenizers", "numpy", "torchserve", "openvino",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Memory in bytes. `busy_before` is the share of all cores that was in use just before the run, by whatever;
    `commit` is the checkout's, with "+" where files differ from it, or "" outside of one.
    """

    cpu: str
    cores: int
    memory: int
    gpus: tuple[str, ...]
    system: str
    python: str
    versions: dict[str, str]
    commit: str
    busy_before: float
    load_before: float


def look(hardware: Hardware, more: dict[str, str] | None = None) -> Machine:
    """Takes a second: the time over which it is seen how busy the machine is. `more` are other versions to name."""
    return Machine(
        cpu=cpu_model(_cpuinfo()),
        cores=hardware.cores,
        memory=psutil.virtual_memory().total,
        gpus=tuple(f"{gpu.name}, {gpu.memory_total >> 20} MB" for gpu in hardware.gpus),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: found for name in PACKAGES if (found := _version(name))} | _java() | (more or {}),
        commit=commit(ROOT),
        busy_before=psutil.cpu_percent(interval=1.0) / 100,
        load_before=os.getloadavg()[0],
    )


def cpu_model(cpuinfo: str) -> str:
    """The processor's name with its family and model, from /proc/cpuinfo's text: the name alone is often generic."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields and "model" in fields:
        name += f" (family {fields['cpu family']} model {fields['model']})"
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    return f"{name}, {' '.join(wide)}" if wide else name


def commit(folder: Path) -> str:
    """The checkout's commit, "+" behind it where the working tree differs; "" where there is none or no git."""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return f"{head}{'+' if _git(folder, 'status', '--porcelain') else ''}"
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _java() -> dict[str, str]:
    """What the kit would start TorchServe with."""
    try:
        return {"java": find_jdk(os.environ).version}
    except JdkError:
        return {}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
