"""What an unexpected exception means for the worker, and how a worker ends.

A CUDA error other than a lack of memory leaves the process's CUDA context broken for good: every later
request would fail in it. TorchServe keeps such a worker for ever, so it has to leave by itself; the server
sees the closed socket, answers what was in flight with an error and starts another worker.
"""

import logging
import signal
import sys
import threading
from typing import NoReturn

from .errors import InternalError, NoMemoryError, RequestError

log = logging.getLogger("embedkit")

_CUDA_WORDS = ("CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS", "CUDNN_STATUS", "CUSOLVER_STATUS")
_CUDA_TYPES = ("AcceleratorError", "CudaError", "DeferredCudaCallError")
_CPU_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "bad_alloc", "bad allocation")
_SECONDS_TO_LEAVE = 10


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had no room; the process itself is sound."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_MEMORY_WORDS)


def is_cuda_error(error: BaseException) -> bool:
    """Whether the CUDA context is, or may be, broken."""
    if is_out_of_memory(error):
        return False
    if any(kind.__name__ in _CUDA_TYPES for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CUDA_WORDS)


def as_request_error(error: Exception) -> RequestError:
    """What the client is told of an unexpected exception: nothing of its text."""
    return NoMemoryError() if is_out_of_memory(error) else InternalError()


def leave_worker_on_cuda_error(error: BaseException) -> None:
    """Ends the worker where the error is a CUDA error, else returns."""
    if is_cuda_error(error):
        log.critical("embedkit: a CUDA error; this worker ends so that it is replaced", exc_info=error)
        leave_worker()


def leave_worker() -> NoReturn:
    """Ends the process: SystemExit, which TorchServe's worker does not catch.

    Tearing down a broken CUDA context may hang; the kernel's alarm then ends what the exception did not.
    """
    for handler in logging.getLogger().handlers:
        handler.flush()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS_TO_LEAVE)
    sys.exit(1)


def free_cached_memory() -> None:
    """Gives back what torch keeps of the GPU's memory for reuse, after a lack of it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
