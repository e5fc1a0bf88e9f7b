"""What the doctor says of a damaged environment, and `make repair`, for real: in a checkout whose locks are of three
tiny packages, which lie in env/wheels as a bundle's do, so that no network is asked. Its driver is told, not had.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import orjson
import packaging
import pytest

from ops.settings import ROOT

PYTHON = str(Path(sys.executable).resolve())
SITE = Path(packaging.__file__).parent.parent
# A torch that computes where its build can: on a GPU, of which these machines have one by their driver.
TORCH = """
__version__ = "{version}"
class version: cuda = {cuda!r}
class zeros:
    def __init__(self, *_, device): pass
    def item(self): return 0
"""
# In the environment that is looked at, with what the checks themselves import from the tests' own behind it.
LOOK = """
import os, sys
sys.path.append({site!r})
import json
from pathlib import Path
from env import checks
from env.chooser import ChoiceError, choose, installed, load_pins
from env.door import door
from env.hardware import Hardware
from env.requirements import installed_versions
repair = checks.repair_by(door(os.environ, Path(sys.prefix), Path.cwd()), Path(sys.prefix))
try:
    here = installed()
except ChoiceError as error:
    here = choose(None, None, load_pins())
again, ours = repair(here.flavour), checks.locked_packages(here)
print(json.dumps([vars(one) for one in (
    checks.python_version({python}, again),
    checks.lock_matches(here, {{name: v for name, v in installed_versions().items() if name in ours}}, again),
    checks.unchanged_since_install(ours, again),
    checks.torch_build(Hardware(2, 1 << 30, driver={driver!r}), checks.probe_torch(), here, repair),
)]))
"""
BACKEND = """
import pathlib, zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(pathlib.Path(folder) / "embedkit-0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("embedkit.pth", str(pathlib.Path.cwd()) + chr(10))
        for name, lines in (
            ("METADATA", ["Metadata-Version: 2.1", "Name: embedkit", "Version: 0"]),
            ("WHEEL", ["Wheel-Version: 1.0", "Root-Is-Purelib: true", "Tag: py3-none-any"]),
            ("RECORD", []),
        ):
            wheel.writestr("embedkit-0.dist-info/" + name, chr(10).join(lines))
    return "embedkit-0-py3-none-any.whl"
"""


def wheel(folder: Path, name: str, version: str, module: str) -> str:
    """A wheel of one module; returns its entry in a lock."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for file, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        record += f"{file},sha256={digest},{len(content)}\n"
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for file, content in (*files.items(), (f"{info}/RECORD", f"{record}{info}/RECORD,,\n")):
            archive.writestr(file, content)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(made.read_bytes()).hexdigest()}\n"


class Checkout:
    """A checkout with tiny locks. `driver` is NVIDIA's, for whoever chooses a lock and for the doctor."""

    def __init__(self, folder: Path, driver: str = "") -> None:
        self.folder, self.driver = folder, driver
        shutil.copytree(ROOT / "env", folder / "env", ignore=shutil.ignore_patterns("wheels", "jdk", "__pycache__"))
        for file in ("Makefile", "pyproject.toml", "uv.lock"):
            shutil.copy(ROOT / file, folder / file)
        (folder / "ops" / "supervisor").mkdir(parents=True)
        (folder / "ops" / "supervisor" / "config.py").write_text("")
        (folder / "backend.py").write_text(BACKEND)
        text = (folder / "pyproject.toml").read_text()
        head, _, rest = text.partition("[build-system]")
        own = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n\n['
        (folder / "pyproject.toml").write_text(head + own + rest.partition("\n[")[2])
        wheels = folder / "env" / "wheels"
        wheels.mkdir()
        base = "".join(wheel(wheels, name, "1.0", "x = 1\n") for name in ("setuptools", "tiny"))
        for flavour, version, cuda in (
            ("cpu", "2.13.0+cpu", None),
            ("cuda12", "2.10.0", "12.8"),
            ("cuda13", "2.13.1", "13.0"),
        ):
            entry = wheel(wheels, "torch", version, TORCH.format(version=version, cuda=cuda))
            (folder / "env" / "locks" / f"{flavour}.txt").write_text(base + entry)
        smi = folder / "bin" / "nvidia-smi"
        smi.parent.mkdir()
        smi.write_text(f"#!/bin/sh\n[ '{driver}' ] && echo '{driver}'\n")
        smi.chmod(0o755)

    @property
    def site(self) -> Path:
        return self.folder / ".venv" / "lib" / "python3.11" / "site-packages"

    def shell(self, script: str, python: tuple[int, int] = (3, 11), **environ: str) -> dict[str, dict[str, str]]:
        """What the doctor finds after the script has been run in the checkout, in the same shell."""
        known = {name: value for name, value in os.environ.items() if name != "TORCH" and not name.startswith("PIP_")}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        look = LOOK.format(site=str(SITE), driver=self.driver or None, python=python)
        command = f"set -e\n{script}\n.venv/bin/python - <<'END'\n{look}\nEND"
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={**known, "PATH": path, "PYTHON": PYTHON, "PIP_CONFIG_FILE": os.devnull, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {one["check"]: one for one in orjson.loads(done.stdout.splitlines()[-1])}


def failing(found: dict[str, dict[str, str]]) -> list[str]:
    return [name for name, one in found.items() if one["status"] == "fail"]


def test_a_damaged_environment_is_built_anew(tmp_path: Path) -> None:
    """A changed file, a missing package and another Python: each is named, and its command is enough."""
    checkout = Checkout(tmp_path)
    assert failing(checkout.shell("make env")) == []
    with (checkout.site / "tiny.py").open("a") as file:
        file.write("y = 2\n")
    shutil.rmtree(checkout.site / "setuptools-1.0.dist-info")
    found = checkout.shell("true", python=(3, 12))
    assert failing(found) == ["python", "lock", "packages"]
    assert found["lock"]["fix"] == found["packages"]["fix"] == "make repair"
    for check in ("packages", "python"):
        (checkout.site / "tiny.py").write_text("z = 3\n")
        assert failing(checkout.shell(found[check]["fix"])) == []


@pytest.mark.slow
def test_the_lock_that_somebody_chose_is_kept(tmp_path: Path) -> None:
    """TORCH=cuda12 is in the command where the shell and the driver would choose another; a TORCH that is none goes."""
    checkout = Checkout(tmp_path, driver="580.65.06")
    checkout.shell("TORCH=cuda12 make env")
    (checkout.site / "tiny.py").write_text("y = 2\n")
    found = checkout.shell("true")
    assert found["packages"]["fix"] == "TORCH=cuda12 make repair"
    assert checkout.shell("true", TORCH="cuda12")["packages"]["fix"] == "make repair"
    mended = checkout.shell(found["packages"]["fix"])
    assert failing(mended) == []
    assert "2.10.0" in mended["torch"]["detail"]


@pytest.mark.slow
def test_a_cpu_build_beside_a_gpu_is_a_fault_unless_it_was_asked_for(tmp_path: Path) -> None:
    """Left over from before the driver came it fails, and its command brings the build that fits; TORCH=cpu, which the
    set-up records without building anything, makes it a note, in any shell."""
    checkout = Checkout(tmp_path)
    assert checkout.shell("make env")["torch"]["status"] == "ok"
    smi, checkout.driver = checkout.folder / "bin" / "nvidia-smi", "580.65.06"
    smi.write_text("#!/bin/sh\necho 580.65.06\n")
    found = checkout.shell("true")["torch"]
    assert found["status"] == "fail"
    assert "if that is meant: TORCH=cpu make env" in found["detail"]
    made = (checkout.folder / ".venv" / "pyvenv.cfg").stat().st_mtime_ns
    assert checkout.shell("TORCH=cpu make env")["torch"]["status"] == "note"
    assert checkout.shell("true")["torch"]["status"] == "note"
    assert (checkout.folder / ".venv" / "pyvenv.cfg").stat().st_mtime_ns == made
    fits = checkout.shell(found["fix"])["torch"]
    assert (fits["status"], "2.13.1 for CUDA 13.0" in fits["detail"]) == ("ok", True)


@pytest.mark.slow
def test_a_driver_too_old_for_the_lock_gets_the_one_it_runs(tmp_path: Path) -> None:
    """cuda13 on a driver of CUDA 12 names cuda12; on one that runs none, cpu, which is then no failure."""
    checkout = Checkout(tmp_path, driver="550.54.15")
    checkout.shell("TORCH=cuda13 make env")
    torch = checkout.site / "torch.py"
    torch.write_text(torch.read_text().replace("return 0", "raise RuntimeError('driver too old')"))
    found = checkout.shell("true")["torch"]
    assert (found["status"], found["fix"]) == ("fail", "make repair")
    assert "cuda13 needs driver 580 or newer" in found["detail"]
    assert checkout.shell(found["fix"])["torch"]["status"] == "ok"
    torch.write_text(torch.read_text().replace("return 0", "raise RuntimeError('driver too old')"))
    checkout.driver = "470.256.02"
    (checkout.folder / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 470.256.02\n")
    found = checkout.shell("true")["torch"]
    mended = checkout.shell(found["fix"])["torch"]
    assert (mended["status"], "update it" in mended["detail"]) == ("note", True)
