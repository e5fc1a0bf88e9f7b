"""flake.nix, evaluated and its checks built by the real nix. nixpkgs is the stub: this shows syntax, wiring and the
names that are asked for, never that nixpkgs has them. docs/nix.md says what a machine with nixpkgs shows."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from env.chooser import FLAVOURS
from ops.settings import ROOT
from tests.nix.conftest import Nix, copied_stub, needed_names, this_machine

SYSTEM = "x86_64-linux"
SHELLS = ("default", *FLAVOURS)
NIXS_OWN = {"bashInteractive"}  # `nix develop` asks for it, not the flake


def test_the_flake_checks(nix: Nix) -> None:
    """`nix flake check --no-build` evaluates every output without an error."""
    nix.ok("flake check --no-build")


def test_what_it_offers(nix: Nix) -> None:
    """Four shells, the main job and its like as apps, checks and a formatter."""
    shown = json.loads(nix.ok("flake show --json"))
    offered = {output: set(systems[SYSTEM]) for output, systems in shown.items() if output != "formatter"}
    assert offered == {
        "devShells": set(SHELLS),
        "apps": {"default", "up", "down", "test"},
        "checks": {"hooks", "tools"},
    }
    assert shown["formatter"][SYSTEM]["name"] == "stub-nixfmt-tree"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_names_its_door_java_and_lock(nix: Nix, shell: str) -> None:
    """Each shell says its door and JDK, lets uv install, and takes the lock of its name; `default` leaves it open."""
    wanted = "s: { inherit (s) EMBEDKIT_DOOR INSTALLER UV_PYTHON_DOWNLOADS JAVA_HOME; TORCH = s.TORCH or null; }"
    evaluated = json.loads(nix.ok("eval --json", f"#devShells.{SYSTEM}.{shell}", "--apply", wanted))
    assert evaluated["EMBEDKIT_DOOR"] == "nix"
    assert evaluated["INSTALLER"] == "uv"
    assert evaluated["UV_PYTHON_DOWNLOADS"] == "never"
    assert evaluated["JAVA_HOME"].endswith("-stub-jdk11_headless/lib/openjdk")
    assert evaluated["TORCH"] == (None if shell == "default" else shell)


@pytest.mark.parametrize(
    ("kind", "gone"),
    [(kind, name) for kind, names in needed_names().items() for name in names if name not in NIXS_OWN],
)
def test_a_name_that_the_list_lacks_fails(nix: Nix, kind: str, gone: str, tmp_path: Path) -> None:
    """The stub has exactly what names.json lists: without one of its names the flake does not evaluate."""
    names = needed_names()
    names[kind] = (
        [each for each in names[kind] if each != gone]
        if kind == "builders"
        else {key: value for key, value in names[kind].items() if key != gone}
    )
    lacking = dataclasses.replace(nix, stub=copied_stub(tmp_path, names))
    asked = (
        lacking("flake check --no-build"),  # which looks at neither of these:
        lacking("eval --json", f"#apps.{SYSTEM}", "--apply", "builtins.mapAttrs (_: app: app.program)"),
        lacking("eval --json", f"#formatter.{SYSTEM}"),
    )
    assert any(f"'{gone}' missing" in each.stderr for each in asked if each.returncode)


def test_the_list_has_nothing_that_is_not_asked_for() -> None:
    """Every name of the list stands in door.nix, but for the one that `nix develop` itself asks for."""
    names = needed_names()
    asked = (ROOT / "env" / "nix" / "door.nix").read_text()
    listed = {*names["programs"], *names["libraries"], *names["builders"]}
    assert {name for name in listed if not re.search(rf"pkgs\.{re.escape(name)}\b", asked)} == NIXS_OWN


@pytest.mark.needs("shellcheck")
def test_hooks_pass_bash_and_shellcheck(nix: Nix) -> None:
    """The check `hooks` builds: `bash -n` and shellcheck find nothing in env/nix/*.sh."""
    nix.ok("build --no-link", f"#checks.{SYSTEM}.hooks")


@pytest.mark.needs("shellcheck")
@pytest.mark.parametrize("app", ["up", "down", "test"])
def test_an_app_outside_a_checkout_says_so(nix: Nix, app: str) -> None:
    """An app's script passes the shellcheck of its build, and its first step refuses a folder that is no checkout."""
    refused = nix("run", f"#{app}")
    assert refused.returncode == 1
    assert "is in no checkout of embedkit" in refused.stderr


@pytest.mark.needs("haproxy", "prometheus", "promtool", "amtool", "tmux", "shellcheck", "readelf", "ip")
def test_a_missing_tool_fails_by_name(nix: Nix) -> None:
    """The check `tools` asks each tool for its version; Grafana, the last, is not on a machine from Debian alone."""
    if this_machine()["grafana"]:
        nix.ok("build --no-link", f"#checks.{SYSTEM}.tools")
        return
    failed = nix("build --no-link", f"#checks.{SYSTEM}.tools")
    assert "grafana --version failed: grafana is not on this machine" in failed.stderr
