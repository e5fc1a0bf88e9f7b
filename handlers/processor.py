"""What this machine's processor can do."""

from pathlib import Path

# Either of them multiplies bfloat16; without, it is emulated, slower than float32.
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The processor's features by the kernel's names; none where it does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset())


def computes_bfloat16(found: frozenset[str]) -> bool:
    """Whether a processor with these features multiplies bfloat16 itself."""
    return bool(found & _BFLOAT16)
