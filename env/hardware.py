"""What this machine, or this container, computes with: cores it may use, memory, GPUs as NVML sees them."""

import importlib.metadata
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

from env.cgroup import Memory, limits


@dataclass(frozen=True)
class Gpu:
    """One GPU; memory in bytes. `index` counts visible devices, as torch and TorchServe do."""

    index: int
    uuid: str
    name: str
    memory_total: int
    memory_free: int


@dataclass(frozen=True)
class Hardware:
    """`memory_bytes` is what may still be taken, in bytes; `gpus` are those that torch here can compute on, `idle`
    those beside a CPU build of it; `driver` is NVIDIA's, or None."""

    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    idle: tuple[Gpu, ...] = ()


def visible(gpus: list[Gpu], mask: str | None) -> tuple[Gpu, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, renumbered; like CUDA, it stops at the first entry it cannot find."""
    if mask is None:
        return tuple(gpus)
    chosen: list[Gpu] = []
    for entry in (part.strip() for part in mask.split(",")):
        match = [gpu for gpu in gpus if str(gpu.index) == entry or (len(entry) > 4 and gpu.uuid.startswith(entry))]
        if not match:
            break
        gpu = match[0]
        chosen.append(Gpu(len(chosen), gpu.uuid, gpu.name, gpu.memory_total, gpu.memory_free))
    return tuple(chosen)


def _held(handle: Any, ours: Collection[int]) -> int:
    """Memory of this GPU that these processes hold, as far as the driver tells."""
    try:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError:
        return 0
    return sum(int(one.usedGpuMemory or 0) for one in running if one.pid in ours)


def _nvml_gpus(ours: Collection[int]) -> tuple[list[Gpu], str | None]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [], None
    try:
        gpus = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            room = pynvml.nvmlDeviceGetMemoryInfo(handle)
            uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
            gpus.append(Gpu(index, str(uuid), str(name), int(room.total), int(room.free) + _held(handle, ours)))
        return gpus, str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return [], None
    finally:
        pynvml.nvmlShutdown()


def memory() -> Memory:
    """What rules here: the machine's memory, or that of a control group with less of it left."""
    machine, group = psutil.virtual_memory(), limits().memory
    rulers = [Memory(machine.total, machine.available), *([group] if group else [])]
    return min(rulers, key=lambda one: one.available)


def cpus() -> float:
    """Cores that this process may keep busy; a quota may be a part of one."""
    quota, usable = limits().cores, len(os.sched_getaffinity(0))
    return usable if quota is None else min(usable, quota)


def own_bytes(pid: int) -> int:
    """Memory that ends with this process, or its part of what it shares with its children; files that it maps are the
    page cache's, which counts as free already.

    0 for a process that is gone or another user's, and from kernels before 5.4, which do not tell.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss_Anon:"))


def detect(ours: Collection[int] = ()) -> Hardware:
    """Look at this machine. No GPU, or a broken driver, gives an empty `gpus`, never an error.

    What the processes `ours` (pids) hold counts as free: for those who would start them anew.
    """
    gpus, driver = _nvml_gpus(ours)
    found, seen = memory(), visible(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    unused = bool(seen) and _cpu_build()
    return Hardware(
        cores=max(1, int(cpus())),
        memory_bytes=min(found.total, found.available + sum(map(own_bytes, ours))),
        gpus=() if unused else seen,
        driver=driver,
        idle=seen if unused else (),
    )


def _cpu_build() -> bool:
    """Whether torch here is the build of the cpu lock, by its version: importing it takes seconds."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
