from pathlib import Path

import pytest

from handlers.processor import computes_bfloat16, flags


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),
        ("Features\t: asimd bf16", False),
        ("", False),
    ],
)
def test_bfloat16_is_the_kernels_word(line: str, expected: bool, tmp_path: Path) -> None:
    """The processor multiplies bfloat16 where /proc/cpuinfo says so, and only there."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")

    assert computes_bfloat16(flags(tmp_path / "cpuinfo")) is expected


def test_a_machine_that_does_not_tell_has_nothing(tmp_path: Path) -> None:
    """No /proc/cpuinfo is no error."""
    assert flags(tmp_path / "none") == frozenset()
