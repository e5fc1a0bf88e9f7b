"""The conda files, env/environment*.yml: Python, the JDK and make from conda-forge, the rest by pip from a hashed lock.

conda writes the list under `pip:` to a file beside the yml and hands it to pip, so `-r locks/…` is found from any
folder. `--no-deps` cannot stand in such a list: a lock that pip would not call complete needs PIP_NO_DEPS=1 in front.
"""

from pathlib import Path

from env.chooser import Choice
from env.lock import STAMP
from env.pins import Pins
from env.requirements import installed_versions, normal, packages_of

# The flavour of each file; the first is the one that `conda env create` is usually given.
FILES = {
    "env/environment.yml": "cuda13",
    "env/environment-cuda12.yml": "cuda12",
    "env/environment-cpu.yml": "cpu",
}


def environment_name(flavour: str) -> str:
    return "embedkit" if flavour == "cuda13" else f"embedkit-{flavour}"


def specs(pins: Pins) -> list[str]:
    """What is asked of conda, as match specs."""
    return [f"python={pins.python}", f"openjdk={pins.jdk}", "pip", "make"]


def environment_yml(pins: Pins, file: str) -> str:
    """The text of one of FILES."""
    flavour = FILES[file]
    name = environment_name(flavour)
    if flavour == "cpu":
        why = "No NVIDIA driver needed. PIP_NO_DEPS=1 belongs in front: the lock leaves out what only CUDA needs.\n"
        why += "# pip has to be offered the +cpu build of torch: docs/environment.md."
    else:
        why = f"torch for CUDA {pins.cuda(flavour)}, NVIDIA driver {pins.driver(flavour)} or newer."
    create = "PIP_NO_DEPS=1 conda" if flavour == "cpu" else "conda"
    listed = "\n".join(f"  - {spec}" for spec in specs(pins))
    return f"""\
{STAMP}# {why}
#
#     {create} env create -f {file}
#     conda activate {name}
#     make up
name: {name}
channels:
  - conda-forge
  - nodefaults
dependencies:
{listed}
  - pip:
      - -r locks/{flavour}.txt
variables:
  EMBEDKIT_DOOR: conda
  TORCH: {flavour}
"""


def environment_files(pins: Pins) -> dict[str, str]:
    """File → text of every conda file."""
    return {file: environment_yml(pins, file) for file in FILES}


def prefix_problem(prefix: Path, choice: Choice, *, repair: bool) -> str:
    """Why the activated conda environment cannot be used as it is, or "". Asked of the Python that runs in it."""
    file = next(file for file, flavour in FILES.items() if flavour == choice.flavour)
    again = f"conda env remove -p {prefix}, then create it again from {file}"
    if repair:
        return f"{prefix} is conda's to make: {again}"
    there = installed_versions()
    wanted = packages_of(choice.lock.read_text(encoding="utf-8"))
    lacking = [f"{name} {version}" for name, version in wanted.items() if there.get(normal(name)) != version]
    if not lacking:
        return ""
    more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
    return f"{prefix} lacks of {choice.lock.name}: {', '.join(lacking[:5])}{more}: {again}"
