"""Which backends and dtypes may be tried, by what models.toml says and by the machine."""

from typing import Any

import pytest

from archives.candidates import Candidate, Machine, candidates
from archives.catalogue import ModelSpec
from archives.errors import PackError

MODERN = Machine(frozenset({"avx512f", "avx512_bf16"}), openvino=True)
OLD = Machine(frozenset({"avx2"}), openvino=True)
BARE = Machine(frozenset({"avx512_bf16"}), openvino=False)
GPU = Machine(frozenset({"avx512_bf16"}), openvino=False, gpus=("NVIDIA L4",))


def names(found: list[Candidate]) -> list[str]:
    return [f"{one.backend} {one.dtype}" for one in found]


def spec(**values: Any) -> ModelSpec:
    return ModelSpec.model_validate({"name": "m", "source": {"package": "p", "path": "x"}, **values})


@pytest.mark.parametrize(
    ("asked", "machine", "expected"),
    [
        ({}, MODERN, ["openvino bfloat16", "torch bfloat16", "openvino float32", "torch float32"]),
        ({}, OLD, ["openvino float32", "torch float32"]),
        ({}, BARE, ["torch bfloat16", "torch float32"]),
        ({}, GPU, ["torch bfloat16", "torch float16", "torch float32"]),
        ({"dtype": "float32"}, MODERN, ["openvino float32", "torch float32"]),
        ({"dtype": "bfloat16"}, OLD, ["torch bfloat16"]),
        ({"backend": "torch"}, MODERN, ["torch bfloat16", "torch float32"]),
        ({"backend": "openvino"}, OLD, ["openvino float32"]),
        ({"backend": "openvino", "dtype": "bfloat16"}, MODERN, ["openvino bfloat16"]),
        ({"dtype": "float16"}, GPU, ["torch float16"]),
    ],
)
def test_order(asked: dict[str, str], machine: Machine, expected: list[str]) -> None:
    """The fastest first; bfloat16 by itself only where the processor multiplies it; on a GPU torch alone."""
    assert names(candidates(spec(**asked), machine)) == expected


@pytest.mark.parametrize(
    ("asked", "machine", "message"),
    [
        ({"backend": "openvino"}, BARE, r"not installed here .*TORCH=cpu"),
        ({"backend": "openvino", "dtype": "bfloat16"}, OLD, r"neither avx512_bf16 nor amx_bf16.*'float32'"),
        ({"dtype": "float16"}, MODERN, r"dtype = 'float16' is nothing for this machine \(no GPU is used\)"),
    ],
)
def test_what_is_not_here(asked: dict[str, str], machine: Machine, message: str) -> None:
    """What cannot be had is an error with the way out, not something else in its place."""
    with pytest.raises(PackError, match=f"m: .*{message}"):
        candidates(spec(**asked), machine)
