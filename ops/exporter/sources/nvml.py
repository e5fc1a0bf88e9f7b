"""GPUs by uuid, as NVML tells them. Without a driver the source is absent, not down."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pynvml

from ops.exporter.families import Families
from ops.exporter.source import AbsentError, SourceError
from ops.settings import Settings
from ops.telemetry import worker_cards

log = logging.getLogger("embedkit.exporter")

THROTTLES: Mapping[str, int] = {
    "power_cap": pynvml.nvmlClocksThrottleReasonSwPowerCap,
    "hw_slowdown": pynvml.nvmlClocksThrottleReasonHwSlowdown,
    "sw_thermal": pynvml.nvmlClocksThrottleReasonSwThermalSlowdown,
    "hw_thermal": pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
    "power_brake": pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
}
_ECC = {
    "corrected": pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
    "uncorrected": pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
}


@dataclass
class Gpu:
    """One GPU at one moment, in NVML's own units; None where this GPU does not tell it."""

    uuid: str
    index: int
    name: str
    driver: str
    memory_used: int
    memory_total: int
    utilization_percent: int | None
    power_milliwatts: int | None
    temperature: int | None
    sm_mhz: int | None
    memory_mhz: int | None
    throttle_mask: int | None
    ecc: Mapping[str, int] = field(default_factory=dict)
    processes: Mapping[int, int] = field(default_factory=dict)  # pid → bytes


def _told(ask: Callable[..., Any], *arguments: Any) -> Any:
    """NVML's answer, or None where this GPU or driver does not have it.

    Raises:
        NVMLError: the GPU itself does not answer.
    """
    try:
        return ask(*arguments)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NoPermission):
        return None


def look(index: int, driver: str) -> Gpu:
    """Ask NVML, which is initialised, about one GPU. Raises NVMLError where it is lost."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    rates = _told(pynvml.nvmlDeviceGetUtilizationRates, handle)
    ecc = {
        kind: _told(pynvml.nvmlDeviceGetTotalEccErrors, handle, number, pynvml.NVML_VOLATILE_ECC)
        for kind, number in _ECC.items()
    }
    processes = _told(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    return Gpu(
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        index=index,
        name=str(pynvml.nvmlDeviceGetName(handle)),
        driver=driver,
        memory_used=int(memory.used),
        memory_total=int(memory.total),
        utilization_percent=None if rates is None else int(rates.gpu),
        power_milliwatts=_told(pynvml.nvmlDeviceGetPowerUsage, handle),
        temperature=_told(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        sm_mhz=_told(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
        memory_mhz=_told(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
        throttle_mask=_told(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle),
        ecc={kind: count for kind, count in ecc.items() if count is not None},
        processes={one.pid: int(one.usedGpuMemory or 0) for one in processes},
    )


def map_gpus(gpus: Iterable[Gpu], models: Mapping[int, str], families: Families) -> None:
    """NVML's units into base units; `models`: pid of a worker → its model."""
    for gpu in gpus:
        uuid = gpu.uuid
        families.add("gpu_info", 1, uuid=uuid, index=str(gpu.index), name=gpu.name, driver=gpu.driver)
        for name, value, factor in (
            ("gpu_utilization_ratio", gpu.utilization_percent, 0.01),
            ("gpu_memory_used_bytes", gpu.memory_used, 1),
            ("gpu_memory_total_bytes", gpu.memory_total, 1),
            ("gpu_power_watts", gpu.power_milliwatts, 1e-3),
            ("gpu_temperature_celsius", gpu.temperature, 1),
            ("gpu_sm_clock_hertz", gpu.sm_mhz, 1e6),
            ("gpu_memory_clock_hertz", gpu.memory_mhz, 1e6),
        ):
            if value is not None:
                families.add(name, value * factor, uuid=uuid)
        if gpu.throttle_mask is not None:
            for reason, bit in THROTTLES.items():
                families.add("gpu_throttle", bool(gpu.throttle_mask & bit), uuid=uuid, reason=reason)
        for pid, held in gpu.processes.items():
            if pid in models:
                families.add("gpu_process_memory_bytes", held, uuid=uuid, pid=str(pid), model=models[pid])
        foreign = [held for pid, held in gpu.processes.items() if pid not in models]
        if foreign:  # one series, however many processes come and go
            families.add("gpu_process_memory_bytes", sum(foreign), uuid=uuid, pid="", model="")
        for kind, count in gpu.ecc.items():
            families.add("gpu_ecc_errors_total", count, uuid=uuid, kind=kind)


class NvmlSource:
    """NVML, initialised once and anew after a failure."""

    name = "nvml"

    def __init__(self, settings: Settings) -> None:
        self._telemetry = settings.telemetry
        self._ready = False
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        if not self._ready:
            self._begin()
        gpus, lost = [], 0
        try:
            driver = str(pynvml.nvmlSystemGetDriverVersion())
            for index in range(pynvml.nvmlDeviceGetCount()):
                try:
                    gpus.append(look(index, driver))
                except pynvml.NVMLError as error:
                    self.errors["failed"] += 1
                    log.warning("nvml: GPU %d: %s", index, error)
                    lost += 1
        except pynvml.NVMLError as error:
            self._end()
            raise SourceError("failed", str(error)) from error
        if lost:
            self._end()
            if not gpus:
                raise SourceError("failed", f"all {lost} GPUs are lost")
        models = {pid: card.model for pid, card in worker_cards(self._telemetry).items()}
        map_gpus(gpus, models, families)

    def _begin(self) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError_LibraryNotFound as error:
            raise AbsentError from error
        except pynvml.NVMLError as error:
            raise SourceError("failed", str(error)) from error
        self._ready = True

    def _end(self) -> None:
        self._ready = False
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
