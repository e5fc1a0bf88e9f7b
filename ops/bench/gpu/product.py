"""The device, and how fast one large bfloat16 matrix product is on it: what utilisation is measured against.

    python -m ops.bench.gpu.product --device cuda [--look] [--size 8192]

A process of its own, so that its CUDA context is gone when the service starts. It prints one JSON document. A GPU that
was asked for and cannot be used, or counted by TorchServe, ends it with status 1 and says what is missing.
"""

import argparse
import json
import shutil
import sys
import time
from statistics import median
from typing import Any

from handlers.devices import DeviceError, choose, look

ROUNDS = 7
ROUND_S = 0.3  # long enough for a clock, short enough that heat changes little


def flops_of_product(size: int) -> float:
    """Of one size × size by size × size product."""
    return 2.0 * size**3


def measure(device: str, size: int) -> dict[str, Any]:
    """The median rate of some rounds of products of random numbers (zeros would be faster: less power)."""
    import torch

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    torch.manual_seed(1)
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(left)
    with torch.inference_mode():
        for _ in range(3):
            torch.mm(left, right, out=out)
        wait()
        started = time.perf_counter()
        torch.mm(left, right, out=out)
        wait()
        repeats = max(1, round(ROUND_S / (time.perf_counter() - started)))
        rates = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for _ in range(repeats):
                torch.mm(left, right, out=out)
            wait()
            rates.append(repeats * flops_of_product(size) / (time.perf_counter() - started))
    return {"size": size, "dtype": "bfloat16", "flops_per_s": median(rates), "rounds": rates}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--look", action="store_true", help="only whether the device can be used")
    parser.add_argument("--size", type=int, default=8192)
    arguments = parser.parse_args()
    try:
        found = look(arguments.device)
        choice = choose(arguments.device, "float32", None, found)
    except DeviceError as error:
        print(f"gpu.sh: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"gpu.sh: {sys.executable} has no {error.name}: set PYTHON to the interpreter that has", file=sys.stderr)
        return 1
    if choice.device != "cpu" and shutil.which("nvidia-smi") is None:
        print(
            "gpu.sh: nvidia-smi is not on the PATH, and TorchServe counts GPUs with it: add its folder to PATH "
            "(the driver brings it; a container gets it with NVIDIA_DRIVER_CAPABILITIES=compute,utility)",
            file=sys.stderr,
        )
        return 1
    about = {"device": choice.device, "name": choice.name, "torch": found.torch, "built_for_cuda": found.built_for}
    print(json.dumps(about if arguments.look else about | measure(choice.device, arguments.size)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
