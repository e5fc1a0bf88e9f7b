"""What this machine's processor can do."""

from pathlib import Path

# Either of them multiplies bfloat16; without, it is emulated, slower than float32.
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


_CPUINFO = Path("/proc/cpuinfo")


def flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """The processor's features by the kernel's names; none where it does not tell."""
    return frozenset(_told("flags", cpuinfo).split())


def name(cpuinfo: Path = _CPUINFO) -> str:
    """What the processor is called; empty where the kernel does not tell."""
    return _told("model name", cpuinfo).strip()


def _told(key: str, cpuinfo: Path) -> str:
    """What stands behind this key, of the first processor."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2] for line in lines if line.startswith(key)), "")


def computes_bfloat16(found: frozenset[str]) -> bool:
    """Whether a processor with these features multiplies bfloat16 itself."""
    return bool(found & _BFLOAT16)
