"""Which device a worker computes on, decided by one pure function from what was found.

A GPU that was asked for and cannot be used is an error that says what is missing: never a silent CPU.
"""

import ctypes
import os
from dataclasses import dataclass


class DeviceError(Exception):
    """The device that was asked for cannot be used; the message says what is missing and what to do.

    Not a RuntimeError: TorchServe takes any of those that mentions CUDA for a lack of memory.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a worker finds: torch's version and the CUDA it is built for (None: a CPU build), the CUDA version
    the driver supports (None: no driver), CUDA_VISIBLE_DEVICES (None: not set), the GPUs torch can see."""

    torch: str
    built_for: str | None
    driver: tuple[int, int] | None
    visible_devices: str | None
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The device in torch's spelling, the hardware's name, and why it was taken."""

    device: str
    name: str
    reason: str


def look(wanted: str) -> Surroundings:
    """What is here. Loads torch; leaves CUDA alone where the CPU is wanted."""
    import torch

    count = torch.cuda.device_count() if torch.version.cuda and wanted != "cpu" else 0
    return Surroundings(
        torch=torch.__version__,
        built_for=torch.version.cuda,
        driver=_driver_version(),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        gpus=tuple(torch.cuda.get_device_name(index) for index in range(count)) if _usable(torch, count) else (),
    )


def choose(wanted: str, dtype: str, gpu_id: int | None, found: Surroundings) -> Choice:
    """The device for `wanted` ("auto", "cpu" or "cuda") and `dtype`; `gpu_id` is TorchServe's, None without one.

    Raises DeviceError.
    """
    choice = _choose(wanted, gpu_id, found)
    if dtype == "float16" and choice.device == "cpu":
        raise DeviceError(
            f"dtype = 'float16' needs a GPU, and this worker is on the CPU ({choice.reason}); "
            "set dtype to 'float32' or 'bfloat16' in models.toml and pack again"
        )
    return choice


def _choose(wanted: str, gpu_id: int | None, found: Surroundings) -> Choice:
    if wanted == "cpu":
        return Choice("cpu", "cpu", "device = 'cpu' in models.toml")
    missing = _missing(gpu_id, found)
    if missing is None:
        index = gpu_id or 0
        given = f"TorchServe gave it gpu {index}" if gpu_id is not None else "TorchServe named none, the first is taken"
        return Choice(f"cuda:{index}", found.gpus[index], f"device = '{wanted}': {given}")
    if wanted == "auto":
        return Choice("cpu", "cpu", f"device = 'auto': {missing}")
    raise DeviceError(f"device = 'cuda', but {missing}")


def _missing(gpu_id: int | None, found: Surroundings) -> str | None:
    """What stands between torch and a GPU, or None; the first obstacle that hides the others."""
    hidden = found.visible_devices is not None and found.visible_devices.strip() in ("", "-1", "NoDevFiles")
    obstacle: str | None = None
    if found.driver is None and found.built_for is None:
        obstacle = f"there is no NVIDIA driver here, and torch {found.torch} is a CPU build"
    elif found.built_for is None:
        obstacle = f"torch {found.torch} is a CPU build, though there is a driver: install with TORCH=cuda12 or cuda13"
    elif found.driver is None:
        obstacle = "no NVIDIA driver was found (libcuda.so.1 does not load): install one, or give the container the GPU"
    elif hidden:
        obstacle = f"CUDA_VISIBLE_DEVICES={found.visible_devices!r} hides every GPU: unset it"
    elif not found.gpus:
        supported, built = ".".join(map(str, found.driver)), found.built_for
        if found.driver[0] < int(built.partition(".")[0]):
            obstacle = (
                f"the driver supports CUDA {supported}, and torch {found.torch} is built for CUDA {built}: "
                "install a newer driver, or with TORCH=cuda12"
            )
        else:
            shown = f" (CUDA_VISIBLE_DEVICES={found.visible_devices!r})" if found.visible_devices else ""
            obstacle = f"torch {found.torch} for CUDA {built} sees no usable GPU{shown}: see what nvidia-smi says"
    elif gpu_id is not None and gpu_id >= len(found.gpus):
        obstacle = f"TorchServe gave this worker gpu {gpu_id}, and torch sees {len(found.gpus)} (counted from 0)"
    return obstacle


def _usable(torch: object, count: int) -> bool:
    return count > 0 and bool(torch.cuda.is_available())  # type: ignore[attr-defined]


def _driver_version() -> tuple[int, int] | None:
    """The newest CUDA the installed driver supports, as (major, minor)."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        # Without the library nothing can compute, even where the kernel module is loaded.
        return None
    version = ctypes.c_int(0)
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value // 1000, version.value % 1000 // 10
