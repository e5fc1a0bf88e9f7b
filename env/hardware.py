"""What this machine, or this container, computes with: cores it may use, memory, GPUs as NVML sees them."""

import os
from dataclasses import dataclass

import psutil
import pynvml

from env.cgroup import limits


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


def detect() -> Hardware:
    """Look at this machine. No GPU, or a broken driver, gives an empty `gpus`, never an error."""
    gpus, driver = _nvml_gpus()
    cores, memory, limit = len(os.sched_getaffinity(0)), psutil.virtual_memory().available, limits()
    return Hardware(
        cores=cores if limit.cores is None else min(cores, max(1, int(limit.cores))),
        memory_bytes=memory if limit.memory_bytes is None else min(memory, limit.memory_bytes),
        gpus=visible(gpus, os.environ.get("CUDA_VISIBLE_DEVICES")),
        driver=driver,
    )
