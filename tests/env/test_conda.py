"""The conda files, solved and installed by py-rattler from a channel of the test's own."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rattler import BuildString, GenericVirtualPackage, MatchSpec, PackageName, Subdir, Version, install, solve
from rattler.exceptions import SolverError
from rattler.shell import ActivationVariables, Shell, activate

from env.chooser import Choice
from env.conda import FILES, prefix_problem
from env.jdk import packaged_java
from ops.settings import ROOT
from tests.e2e.stack import OBSERVERS_OFF, free_ports
from tests.env.conda_channel import SUBDIR, make_channel, real, small

CPU = "env/environment-cpu.yml"
# What a shell that has entered no door does not have.
OTHER_DOORS = ("PYTHON", "VIRTUAL_ENV", "CONDA", "EMBEDKIT_", "TORCH", "JAVA_HOME", "MAKE", "MFLAGS")


def content(file: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    return read


def specs(file: str) -> list[str]:
    return [each for each in content(file)["dependencies"] if isinstance(each, str)]


def pip_list(file: str) -> list[str]:
    listed: list[str] = next(each["pip"] for each in content(file)["dependencies"] if isinstance(each, dict))
    return listed


def virtual(name: str, version: str) -> GenericVirtualPackage:
    return GenericVirtualPackage(PackageName(name), Version(version), BuildString("0"))


def solved(file: str, channel: str, *, cuda: str | None = None) -> list[str]:
    """What a machine with or without an NVIDIA driver would get, as name-version-build."""
    machine = [virtual("__glibc", "2.36"), virtual("__linux", "6.1"), *([virtual("__cuda", cuda)] if cuda else [])]
    records = asyncio.run(solve([channel], specs(file), platforms=[Subdir(SUBDIR)], virtual_packages=machine))
    return sorted(f"{each.name.normalized}-{each.version}-{each.build}" for each in records)


def create(file: str, channel: str, prefix: Path) -> None:
    """What `conda env create` does before it calls pip; the variables it writes afterwards."""

    async def both() -> None:
        records = await solve(
            [channel], specs(file), platforms=[Subdir(SUBDIR)], virtual_packages=[virtual("__glibc", "2.36")]
        )
        await install(records, prefix, cache_dir=prefix.parent / "cache", show_progress=False)

    asyncio.run(both())
    (prefix / "conda-meta" / "state").write_text(json.dumps({"env_vars": content(file)["variables"]}))


def shell(prefix: Path, script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A script in bash with this environment activated, entered from no other door."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(OTHER_DOORS)}
    activation = activate(prefix, ActivationVariables(current_path=clean["PATH"].split(":")), Shell.bash).script
    command = ["bash", "-ec", f"{activation}\n{script}"]
    return subprocess.run(command, env=clean | environ, capture_output=True, text=True, check=False, timeout=280)


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    return asyncio.run(make_channel(small(), tmp_path_factory.mktemp("forge")))


@pytest.mark.parametrize("file", FILES)
def test_every_spec_is_strict(file: str) -> None:
    """No spec is of the ambiguous kind that conda reads in two ways, and no channel but conda-forge is asked."""
    for spec in specs(file):
        MatchSpec(spec, strict=True)
    assert content(file)["channels"] == ["conda-forge", "nodefaults"]


@pytest.mark.parametrize("file", FILES)
def test_a_gpu_changes_nothing_that_conda_installs(file: str, channel: str) -> None:
    """With and without `__cuda` it is the pinned Python and JDK, pip and make, and no torch of conda's."""
    wanted = ["make-4.4.1-0", "openjdk-11.0.30-0", "pip-26.0-0", "python-3.11.15-0"]
    assert wanted == solved(file, channel)
    assert wanted == solved(file, channel, cuda="13.0")


def test_a_channel_without_the_pinned_python_does_not_solve(tmp_path: Path) -> None:
    """The file asks for Python 3.11 and no other."""
    others = [stub for stub in small() if not (stub.name == "python" and stub.version.startswith("3.11"))]
    without = asyncio.run(make_channel(others, tmp_path))
    with pytest.raises(SolverError, match=r"python 3\.11"):
        solved("env/environment.yml", without)


@pytest.mark.parametrize("file", FILES)
def test_pip_is_given_the_hashed_lock_and_nothing_else(file: str) -> None:
    """The list is one line, which leads from the yml's folder to its flavour's lock."""
    assert pip_list(file) == [f"-r locks/{FILES[file]}.txt"]
    assert ((ROOT / file).parent / f"locks/{FILES[file]}.txt").is_file()


def test_activation_names_the_jdk_the_door_and_the_lock(channel: str, tmp_path: Path) -> None:
    """In an activated shell JAVA_HOME is the environment's JDK, and make knows door and flavour."""
    prefix = tmp_path / "prefix"
    create("env/environment.yml", channel, prefix)
    said = shell(
        prefix, 'echo "$JAVA_HOME $EMBEDKIT_DOOR $TORCH"; make -n --no-print-directory -C "$KIT" status', KIT=str(ROOT)
    )
    assert said.stdout.splitlines()[0] == f"{prefix}/lib/jvm conda cuda13"
    assert f"{prefix}/bin/embedkit status" in said.stdout


def test_what_conda_left_out_is_said() -> None:
    """conda leaves an environment behind where pip has failed: what it lacks is named, with conda's way to mend it."""
    assert prefix_problem(Path("/p"), Choice("cpu", "this is one"), repair=False) == ""
    lacking = prefix_problem(Path("/p"), Choice("cuda13", "this is none"), repair=False)
    assert re.match(r"/p lacks of cuda13\.txt: cuda-bindings \S+, .* more: conda env remove -p /p", lacking)
    assert lacking.endswith("then create it again from env/environment.yml")
    assert "is conda's to make" in prefix_problem(Path("/p"), Choice("cpu", "this is one"), repair=True)


@pytest.fixture
def machine() -> Iterator[Path]:
    """A folder with a copy of the checkout in `kit`; short, because unix sockets lie below it."""
    folder = Path(tempfile.mkdtemp(prefix="ek-"))
    aside = shutil.ignore_patterns(
        ".venv", ".git", "var", "store", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis"
    )
    shutil.copytree(ROOT, folder / "kit", ignore=aside)
    yield folder
    shutil.rmtree(folder)


def conda_pip(prefix: Path, kit: Path, file: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command that conda runs: the list in a file beside the yml, from that folder."""
    listed = kit / "env" / "condaenv.0123abcd.requirements.txt"
    listed.write_text("\n".join(pip_list(file)))
    command = f"python -m pip install -U -r {listed} --exists-action=b"
    try:
        return shell(prefix, f"cd {kit / 'env'} && {command}", **environ)
    finally:
        listed.unlink()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_cpu_file_serves(machine: Path) -> None:
    """Solve, install, pip as conda runs it, activate: then `make up` ends with a verified vector, from conda's Python
    and JDK, `supervisorctl` needs no flags, and nothing differs from the pins."""
    java = packaged_java()
    assert java is not None
    url = asyncio.run(make_channel(real(java.parent.parent), machine))
    prefix, kit = machine / "prefix", machine / "kit"
    create(CPU, url, prefix)

    refused = conda_pip(prefix, kit, CPU)
    assert refused.returncode != 0
    assert "In --require-hashes mode" in refused.stderr
    filled = conda_pip(prefix, kit, CPU, PIP_NO_DEPS="1")
    assert filled.returncode == 0, filled.stderr

    names = ("inference", "management", "metrics", "grpc_inference", "grpc_management", "exporter")
    ports = {f"EMBEDKIT_{name.upper()}_PORT": str(port) for name, port in zip(names, free_ports(6), strict=True)}
    chosen = ports | {f"EMBEDKIT_{name.upper()}": value for name, value in OBSERVERS_OFF.items()}

    def run(script: str) -> str:
        done = shell(prefix, f"cd {kit} && {script}", **chosen)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    try:
        run("make up >&2")
        answer = json.loads(run("embedkit embed 'a cat' --json"))
        assert len(answer["data"][0]["embedding"]) == 384
        assert re.search(r"^torchserve +(RUNNING|STARTING)", run("supervisorctl status"), re.MULTILINE)
        assert json.loads(run("embedkit env diff --json"))["differences"] == []
        findings = {each["check"]: each for each in json.loads(run("embedkit doctor --json"))["findings"]}
        assert findings["door"]["detail"].startswith("conda: the conda environment")
        assert str(prefix / "lib" / "jvm") in findings["jdk"]["detail"]
        assert str(prefix) in findings["python"]["detail"]
        assert not (kit / ".venv").exists()
    finally:
        run("make down")
