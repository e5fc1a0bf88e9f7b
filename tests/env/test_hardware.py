"""GPUs as CUDA_VISIBLE_DEVICES leaves them."""

from types import SimpleNamespace

import pynvml
import pytest

from env.hardware import Gpu, detect, visible

GPUS = [Gpu(i, f"GPU-{i}{i}{i}{i}-aaaa", "NVIDIA H200", 140 << 30, 139 << 30) for i in range(3)]


@pytest.mark.parametrize(
    ("mask", "uuids"),
    [
        (None, ["GPU-0000-aaaa", "GPU-1111-aaaa", "GPU-2222-aaaa"]),
        ("", []),
        ("-1", []),
        ("2,0", ["GPU-2222-aaaa", "GPU-0000-aaaa"]),
        ("GPU-1111", ["GPU-1111-aaaa"]),
        ("1,7,0", ["GPU-1111-aaaa"]),
    ],
)
def test_the_mask_selects_and_renumbers(mask: str | None, uuids: list[str]) -> None:
    """Indices and uuids select in the order given, the first unknown entry ends the list, and numbering starts at 0."""
    left = visible(GPUS, mask)
    assert [gpu.uuid for gpu in left] == uuids
    assert [gpu.index for gpu in left] == list(range(len(uuids)))


def test_this_machine_can_be_looked_at() -> None:
    """Detection works on any machine and finds at least a core and some memory."""
    found = detect()
    assert found.cores >= 1
    assert found.memory_bytes > 0


def test_gpus_beside_a_cpu_build_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is laid out for a GPU that torch here, of the cpu lock, cannot compute on; the doctor still sees it."""
    monkeypatch.setattr("env.hardware._nvml_gpus", lambda _: (GPUS, "580.65.06"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = detect()
    assert (found.gpus, found.idle, found.driver) == ((), tuple(GPUS), "580.65.06")
    monkeypatch.setattr("env.hardware._cpu_build", lambda: False)
    assert (detect().gpus, detect().idle) == (tuple(GPUS), ())


def test_what_our_processes_hold_of_a_gpu_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """By NVML's list of a GPU's processes; one that is none of ours, and a driver that does not tell, give nothing."""
    running = [SimpleNamespace(pid=7, usedGpuMemory=5 << 30), SimpleNamespace(pid=8, usedGpuMemory=1 << 30)]
    answers = {
        "Init": None,
        "Shutdown": None,
        "SystemGetDriverVersion": "580.65.06",
        "DeviceGetCount": 1,
        "DeviceGetHandleByIndex": "handle",
        "DeviceGetMemoryInfo": SimpleNamespace(total=24 << 30, free=10 << 30),
        "DeviceGetUUID": "GPU-1",
        "DeviceGetName": "NVIDIA L4",
        "DeviceGetComputeRunningProcesses": running,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, f"nvml{name}", lambda *_, answer=answer: answer)
    monkeypatch.setattr("env.hardware._cpu_build", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu.memory_free >> 30 for gpu in detect({7, 9}).gpus] == [15]
    assert [gpu.memory_free >> 30 for gpu in detect().gpus] == [10]

    def refuse(_: str) -> list[SimpleNamespace]:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", refuse)
    assert [gpu.memory_free >> 30 for gpu in detect({7}).gpus] == [10]
