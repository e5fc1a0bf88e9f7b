"""A GPU that torch can use is not enough: TorchServe and the kit have to find it too, and that is asked first."""

import json
import signal
from pathlib import Path

import pytest

from env.hardware import Gpu, Hardware
from handlers.devices import Choice, Surroundings
from ops.bench.gpu import product, run
from ops.bench.gpu.run import unseen


def test_a_gpu_that_nvml_does_not_show_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is packed, with what is missing and the way out; what the CPU is asked for needs no NVML."""
    gpu = Gpu(0, "GPU-0", "a GPU", 1 << 34, 1 << 34)
    assert unseen(Hardware(4, 0, (gpu,), "580.1"), None) is None
    for hardware, mask, words in (
        (Hardware(4, 0), None, "libnvidia-ml.so.1"),
        (Hardware(4, 0, (), "580.1"), "MIG-1", "CUDA_VISIBLE_DEVICES='MIG-1' leaves: unset it"),
        (Hardware(4, 0, (), "580.1"), None, "driver 580.1 is there"),
    ):
        assert words in (unseen(hardware, mask) or "")
    monkeypatch.setattr(run, "detect", lambda: Hardware(4, 0))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    out = tmp_path / "out"
    assert run.main(["--site", "s", "--seconds", "9", "--out", str(out), "--device", "cuda"]) == 1
    assert "gpu.sh: NVML" in capsys.readouterr().err
    assert not out.exists()


def test_without_nvidia_smi_a_gpu_is_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch can use it, TorchServe could not count it: an error until the program is on the PATH."""
    found = Surroundings(torch="2", built_for="13.0", driver=(13, 0), visible_devices=None, gpus=("G",))
    monkeypatch.setattr(product, "look", lambda device: found)
    monkeypatch.setattr(product, "choose", lambda device, *_: Choice("cuda:0" if device == "cuda" else "cpu", "G", ""))
    monkeypatch.setenv("PATH", str(tmp_path))
    for device, status in (("cpu", 0), ("cuda", 1)):
        monkeypatch.setattr("sys.argv", ["product", "--device", device, "--look"])
        assert product.main() == status
    assert "nvidia-smi is not on the PATH, and TorchServe counts GPUs with it: add" in capsys.readouterr().err
    (tmp_path / "nvidia-smi").touch()
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert product.main() == 0
    assert json.loads(capsys.readouterr().out)["device"] == "cuda:0"
