"""GPUs as CUDA_VISIBLE_DEVICES leaves them."""

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
