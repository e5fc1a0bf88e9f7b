"""What this machine, or this container, computes with: cores it may use, memory, GPUs as NVML sees them."""

import os
from dataclasses import dataclass

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
    """`memory_bytes` is what may still be taken, in bytes; `driver` is NVIDIA's, or None."""

    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None


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


def _nvml_gpus() -> tuple[list[Gpu], str | None]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [], None
    try:
        gpus = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
            gpus.append(Gpu(index, str(uuid), str(name), int(memory.total), int(memory.free)))
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


def detect() -> Hardware:
    """Look at this machine. No GPU, or a broken driver, gives an empty `gpus`, never an error."""
    gpus, driver = _nvml_gpus()
    return Hardware(
        cores=max(1, int(cpus())),
        memory_bytes=memory().available,
        gpus=visible(gpus, os.environ.get("CUDA_VISIBLE_DEVICES")),
        driver=driver,
    )
