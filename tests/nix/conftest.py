"""Debian's nix, with a store of the test's own, and nixpkgs replaced by the stub beside this file."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from env.jdk import packaged_java
from ops.settings import ROOT
from tests.e2e.stack import BIN

STUB = Path(__file__).with_name("stub-nixpkgs")
# Where Debian names a program otherwise.
DEBIAN = {"alertmanager": "prometheus-alertmanager"}
# As root `nix run` goes back to the mount namespace that it came from, and so out of a chroot; not without this right.
NIX = [*(["setpriv", "--bounding-set=-sys_admin"] if os.geteuid() == 0 else []), "nix"]
CONFIG = """\
experimental-features = nix-command flakes
sandbox = false
build-users-group =
substituters =
flake-registry =
"""


def pytest_itemcollected(item: pytest.Item) -> None:
    if "nix" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.needs("nix"))


def needed_names() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((STUB / "names.json").read_text())
    return found


def this_machine() -> dict[str, str | None]:
    """Program or library → its path here, or None."""
    names = needed_names()
    found = {name: shutil.which(DEBIAN.get(name, name)) for each in names["programs"].values() for name in each}
    java = packaged_java()
    assert java is not None
    loader = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for library in (name for each in names["libraries"].values() for name in each):
        path = re.search(rf"{re.escape(library)} \(.*x86-64.*\) => (.*)", loader)
        found[library] = path.group(1) if path else None
    python = str(Path(sys.base_prefix) / "bin" / "python3.11")
    return found | {
        "java": str(java),
        "JAVA_HOME": str(java.parent.parent),
        "python3.11": python,
        "uv": str(BIN / "uv"),
    }


@dataclass(frozen=True)
class Nix:
    """nix on one flake, with this stub for nixpkgs."""

    folder: Path
    flake: str
    stub: Path

    def __call__(self, verb: str, output: str = "", *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [*NIX, *verb.split(), "--override-input", "nixpkgs", f"path:{self.stub}", "--no-write-lock-file"]
        base = {key: value for key, value in os.environ.items() if not key.startswith(("EMBEDKIT_", "VIRTUAL_ENV"))}
        own = {f"NIX_{name}_DIR": str(self.folder / name.lower()) for name in ("STORE", "STATE", "LOG", "CONF")}
        own |= {"NIX_CONFIG": CONFIG, "HOME": str(self.folder), "UV_CACHE_DIR": str(Path.home() / ".cache" / "uv")}
        own |= {"SSL_CERT_FILE": os.environ.get("PIP_CERT", "")} if os.environ.get("PIP_CERT") else {}
        return subprocess.run(
            [*command, f"{self.flake}{output}", *args],
            env=base | own | environ,
            cwd=self.flake.removeprefix("path:"),
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def ok(self, verb: str, output: str = "", *args: str, **environ: str) -> str:
        """What it prints; fails the test where it fails."""
        done = self(verb, output, *args, **environ)
        assert done.returncode == 0, f"nix {verb} {output}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def copied_stub(folder: Path, names: dict[str, Any]) -> Path:
    stub = folder / "stub"
    shutil.copytree(STUB, stub)
    (stub / "names.json").write_text(json.dumps(names))
    (stub / "machine.json").write_text(json.dumps(this_machine()))
    return stub


@pytest.fixture(scope="session")
def nix() -> Iterator[Nix]:
    """nix on a copy of the flake alone, which is all that evaluation reads."""
    folder = Path(tempfile.mkdtemp(prefix="ek-nix-"))
    flake = folder / "flake"
    shutil.copytree(ROOT / "env" / "nix", flake / "env" / "nix")
    for name in ("flake.nix", "flake.lock"):
        shutil.copy(ROOT / name, flake)
    yield Nix(folder, f"path:{flake}", copied_stub(folder, needed_names()))
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
    shutil.rmtree(folder)
