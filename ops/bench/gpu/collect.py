"""Gather what is carried into folders DIR/step-1, DIR/step-2, …, each below the limit. Standard library and pip.

Everything comes by the hashes of the locks; each step tells in carried.json what it holds, with the sha256 that
`install` checks again on the other machine.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from env.requirements import packages_of, subset
from ops.bench.gpu import wheels
from ops.bench.gpu.wheels import MIB, SOURCES, CarryError

CARRIED = "carried.json"
# Wheels name the oldest C library they run with; pip takes for another machine only the names it is told.
_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
)


def collect(target: Path, *, python: str, have: Iterable[str], limit: int, say: Callable[[str], None]) -> list[Path]:
    """Fill `target`; returns the folder of each step. `limit` in bytes, `python` such as "3.12".

    Raises:
        CarryError: `target` holds other things, pip failed, or a file is over the limit.
    """
    _empty(target)
    site_lock = wheels.SITE_LOCK.read_text(encoding="utf-8")
    infinity_lock = wheels.INFINITY_LOCK.read_text(encoding="utf-8")
    wanted = wheels.wanted(packages_of(site_lock), wheels.infinity_pins(infinity_lock), have)
    with tempfile.TemporaryDirectory(prefix="embedkit-collect-") as name:
        folder = Path(name)
        say(f"{len(wanted.site)} packages for the kit, {len(wanted.infinity)} more for infinity, for Python {python}")
        _get(subset(site_lock, set(wanted.site)), folder / "site", python)
        _get(subset(infinity_lock, set(wanted.infinity)), folder / "infinity", python)
        files = {path.name: path for part in ("site", "infinity") for path in sorted((folder / part).glob("*.whl"))}
        made = wheels.steps({name: path.stat().st_size for name, path in files.items()}, limit)
        folders = []
        for number, names in enumerate(made, 1):
            step = target / f"step-{number}"
            step.mkdir(parents=True)
            about: dict[str, dict[str, Any]] = {}
            for file in sorted(names):
                shutil.copy(files[file], step / file)
                into = ["infinity"] if files[file].parent.name == "infinity" else ["site"]
                if into == ["site"] and wheels.wheel_name(file)[0] in wanted.shared:
                    into.append("infinity")
                about[file] = {"sha256": sha256(step / file), "bytes": (step / file).stat().st_size, "into": into}
            (step / CARRIED).write_text(json.dumps({"python": python, "files": about}, indent=1) + "\n")
            total = sum(one["bytes"] for one in about.values())
            say(f"{step}: {len(about)} wheels, {total / MIB:.1f} MiB")
            folders.append(step)
    return folders


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _empty(target: Path) -> None:
    """Make the folder, or clear it of an earlier collection."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(target.iterdir()):
        if not (entry.name.startswith("step-") and (entry / CARRIED).is_file()):
            raise CarryError(f"{target} holds {entry.name}, which is no step of a collection: name an empty folder")
        shutil.rmtree(entry)


def _get(requirements: str, folder: Path, python: str) -> None:
    """Wheels of a part of a lock; what is published as source is built, without its dependencies."""
    folder.mkdir()
    names = set(packages_of(requirements))
    for sources in (False, True):
        part = names & SOURCES if sources else names - SOURCES
        if not part:
            continue
        file = folder / "requirements.txt"
        file.write_text(subset(requirements, part), encoding="utf-8")
        if sources:
            how = ["wheel", "--wheel-dir", str(folder)]
        else:
            how = ["download", "--only-binary", ":all:", "--python-version", python, "--implementation", "cp"]
            how += [*(word for name in _PLATFORMS for word in ("--platform", name)), "--dest", str(folder)]
        pip(*how, "--no-deps", "--require-hashes", "-r", str(file))
        file.unlink()
    got = {wheels.wheel_name(path.name)[0] for path in folder.glob("*.whl")}
    if missing := sorted({wheels.normal(name) for name in names} - got):
        raise CarryError(f"pip has not brought {missing[0]} for Python {python}")
    if odd := [path.name for path in folder.glob("*.whl") if sources_differ(path)]:
        raise CarryError(f"{odd[0]} was built for this Python and not for all: it cannot be carried")


def sources_differ(wheel: Path) -> bool:
    """Whether a wheel that was built here is of this machine's Python alone."""
    return wheels.wheel_name(wheel.name)[0] in SOURCES and not wheel.name.endswith("-none-any.whl")


def pip(*words: str, python: Path | None = None) -> None:
    """This interpreter's pip, on `python`'s environment where one is named.

    Raises:
        CarryError: it failed; its last words are in the message.
    """
    on = ["--python", str(python)] if python else []
    command = [sys.executable, "-m", "pip", *on, words[0], "--quiet", "--disable-pip-version-check", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-6:])
        raise CarryError(f"pip {words[0]} failed:\n{last}")
