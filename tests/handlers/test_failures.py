import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from handlers.failures import as_request_error, is_cuda_error, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "cuda", "memory", "status"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), True, False, 500),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), True, False, 500),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True, False, 500),
        (torch.AcceleratorError("an illegal memory access was encountered"), True, False, 500),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False, True, 503),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), False, True, 503),
        (MemoryError(), False, True, 503),
        (RuntimeError("The size of tensor a (5) must match"), False, False, 500),
        (ValueError("CUDA error in a client's text"), False, False, 500),
    ],
)
def test_failures_are_told_apart(error: Exception, cuda: bool, memory: bool, status: int) -> None:
    """A broken CUDA context, a lack of memory, anything else."""
    assert (cuda, memory) == (is_cuda_error(error), is_out_of_memory(error))
    assert status == as_request_error(error).status
    assert "CUDA" not in as_request_error(error).message


def test_torch_reports_a_lack_of_cpu_memory_as_we_read_it() -> None:
    """The real allocator's error is recognised."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55, dtype=torch.uint8)

    assert is_out_of_memory(caught.value)


def leave(*lines: str) -> subprocess.CompletedProcess[str]:
    script = "\n".join(["from handlers import failures", *map(textwrap.dedent, lines), "failures.leave_worker()"])
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_a_worker_leaves_past_a_catch_all() -> None:
    """`except Exception`, as TorchServe has it around a prediction, does not stop it."""
    script = "import handlers.failures as f\ntry:\n    f.leave_worker()\nexcept Exception:\n    print('caught')\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (1, "")


def test_a_worker_leaves_though_its_teardown_hangs() -> None:
    """What hangs at exit, as a broken CUDA context may, is ended by the alarm."""
    done = leave("import atexit, time", "atexit.register(time.sleep, 60)", "failures._SECONDS_TO_LEAVE = 1")

    assert done.returncode == -signal.SIGALRM
