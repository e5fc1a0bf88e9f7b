from dataclasses import replace

import pytest
import torch

from handlers.devices import DeviceError, Surroundings, choose, look

GPU_MACHINE = Surroundings(
    torch="2.13.0+cu130", built_for="13.0", driver=(13, 0), visible_devices=None, gpus=("H200", "H200")
)
CPU_MACHINE = Surroundings(torch="2.13.0+cpu", built_for=None, driver=None, visible_devices=None, gpus=())


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
@pytest.mark.parametrize(("gpu_id", "device"), [(None, "cuda:0"), (0, "cuda:0"), (1, "cuda:1")])
def test_a_usable_gpu_is_taken(wanted: str, gpu_id: int | None, device: str) -> None:
    """The one TorchServe gave, or the first."""
    choice = choose(wanted, "float32", gpu_id, GPU_MACHINE)

    assert (choice.device, choice.name) == (device, "H200")
    assert wanted in choice.reason


def test_cpu_is_taken_beside_a_gpu_where_it_is_asked_for() -> None:
    """device = 'cpu' means the CPU."""
    assert choose("cpu", "float32", 0, GPU_MACHINE).device == "cpu"


OBSTACLES = [
    (CPU_MACHINE, None, r"no NVIDIA driver.*\+cpu is a CPU build"),
    (replace(CPU_MACHINE, driver=(12, 4)), 0, r"CPU build, though there is a driver.*TORCH=cuda12"),
    (replace(GPU_MACHINE, driver=None, gpus=()), None, r"no NVIDIA driver was found \(libcuda"),
    (replace(GPU_MACHINE, visible_devices="", gpus=()), None, r"CUDA_VISIBLE_DEVICES='' hides"),
    (replace(GPU_MACHINE, visible_devices="-1", gpus=()), 0, r"CUDA_VISIBLE_DEVICES='-1' hides"),
    (replace(GPU_MACHINE, driver=(12, 4), gpus=()), 0, r"driver supports CUDA 12.4.*built for CUDA 13.0"),
    (replace(GPU_MACHINE, gpus=(), visible_devices="7"), 0, r"sees no usable GPU.*CUDA_VISIBLE_DEVICES='7'"),
    (GPU_MACHINE, 2, r"gave this worker gpu 2, and torch sees 2"),
]


@pytest.mark.parametrize(("found", "gpu_id", "told"), OBSTACLES)
def test_a_gpu_that_was_asked_for_and_is_not_usable_is_an_error(
    found: Surroundings, gpu_id: int | None, told: str
) -> None:
    """device = 'cuda' never ends on the CPU; the error says what is missing."""
    with pytest.raises(DeviceError, match=rf"(?s)device = 'cuda', but .*{told}"):
        choose("cuda", "float32", gpu_id, found)


@pytest.mark.parametrize(("found", "gpu_id", "told"), OBSTACLES)
def test_auto_says_why_it_took_the_cpu(found: Surroundings, gpu_id: int | None, told: str) -> None:
    """The same obstacle is the reason for the CPU."""
    choice = choose("auto", "float32", gpu_id, found)

    assert choice.device == "cpu"
    with pytest.raises(DeviceError, match=told):
        raise DeviceError(choice.reason)


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_float16_needs_a_gpu(wanted: str) -> None:
    """float16 on a CPU is an error that names what to set instead."""
    with pytest.raises(DeviceError, match=r"float16.*bfloat16.*models\.toml"):
        choose(wanted, "float16", None, CPU_MACHINE)
    assert choose("auto", "float16", 0, GPU_MACHINE).device == "cuda:0"


def test_look_sees_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's version and build, and the variable that hides devices."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")

    found = look("auto")

    assert (found.torch, found.built_for, found.visible_devices) == (torch.__version__, torch.version.cuda, "-1")
    assert found.gpus == ()
