"""`embedkit env`: the pins against everything that repeats them, and environments against the pins."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from env.state import State

environment = typer.Typer(help="The pins, and what environments hold of them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]


@environment.command()
def check(json: Json = False) -> None:
    """Check that locks, conda files, README and all else that repeats a pin say what the pins say."""
    from env.places import check as find
    from ops.cli import told
    from ops.console import err, out, print_json
    from ops.settings import ROOT

    with told():
        found = find(ROOT)
        if json:
            print_json({"ok": not found, "mismatches": found})
        else:
            for each in found:
                err.print(str(each), markup=False)
            if not found:
                out.print("everything says what the pins say")
        if found:
            raise typer.Exit(1)


@environment.command()
def update(
    pin: Annotated[list[str] | None, typer.Argument(help="NAME==VERSION; none: carry the pins as they stand")] = None,
    *,
    flavour: Annotated[str | None, typer.Option(help="whose torch: cuda12; left out: cpu and cuda13")] = None,
    sha256: Annotated[str | None, typer.Option(help="of torch's +cpu wheel, where torch is raised")] = None,
    json: Json = False,
) -> None:
    """Set pins and carry them everywhere; where that cannot be done, nothing is changed."""
    from env.changes import Change
    from env.update import update as carry
    from ops.cli import told
    from ops.console import err, out, print_json
    from ops.settings import ROOT

    with told():
        done = carry(ROOT, [Change.parse(each, _known(flavour)) for each in pin or []], sha256)
        if json:
            print_json(done)
        else:
            out.print("\n".join(f"wrote {file}" for file in done.files) or "nothing to change", markup=False)
            for each in done.left:
                err.print(f"left to do: {each}", markup=False)
        if done.left:
            raise typer.Exit(1)


@environment.command()
def show(json: Json = False) -> None:
    """Show what this environment holds; with --json, for `embedkit env diff` on another machine."""
    from env.state import running
    from ops.cli import told
    from ops.console import out, print_json, table
    from ops.settings import ROOT

    with told():
        state = running(ROOT)
        if json:
            print_json(state)
            return
        build = f"CUDA {state.torch_cuda}" if state.torch_cuda else "CPU"
        out.print(f"{state.what}, door: {state.door}, lock: {state.lock}", markup=False)
        out.print(f"Python {state.python}, JDK {state.jdk}, torch build: {build}", markup=False)
        shown = table("package", "version")
        for name, release in state.packages.items():
            shown.add_row(name, release)
        out.print(shown)


@environment.command()
def diff(
    file: Annotated[list[Path] | None, typer.Argument(help="up to two files of `embedkit env show --json`")] = None,
    json: Json = False,
) -> None:
    """Compare this environment with the pins; with a file, with that environment; two files, with each other."""
    from env.diff import differences
    from env.errors import PinError
    from env.state import read
    from ops.cli import told
    from ops.console import out, print_json, table

    with told():
        files = file or []
        if len(files) > 2:
            raise PinError(f"{len(files)} files: two can be compared")
        left, right = _pinned_and_here() if not files else (read(files[0]), read(files[1]) if files[1:] else _here())
        found = list(differences(left, right, lines=not files))
        if json:
            print_json({"left": left.what, "right": right.what, "same": not found, "differences": found})
        elif found:
            shown = table("what", "", left.what, right.what)
            for each in found:
                shown.add_row(each.what, each.kind, each.left, each.right)
            out.print(shown)
        else:
            out.print(f"{right.what} is as {left.what}", markup=False)
        if found:
            raise typer.Exit(1)


@environment.command()
def sbom(
    flavour: Annotated[str | None, typer.Option(help="of that lock; left out: of this environment")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="write it there, not to stdout")] = None,
) -> None:
    """Write a CycloneDX bill of materials: packages with hashes and licences, torch's build, Python, the JDK."""
    from env.chooser import lock_path
    from env.errors import PinError
    from env.pins import read_pins
    from env.state import pinned
    from ops.cli import told
    from ops.console import out
    from ops.settings import ROOT

    with told():
        if find_spec("cyclonedx") is None:
            raise PinError("the CycloneDX library is a development tool: run `make dev`, then this again")
        from env.sbom import Sources, as_json, bill

        pins = read_pins(ROOT)
        known = _known(flavour)
        state = pinned(ROOT, pins, known) if known else _pinned_and_here()[1]
        lock = lock_path(state.lock).read_text(encoding="utf-8")
        uv_lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
        sources = Sources(lock, uv_lock, pins.rest["torch"]["cpu"]["index"])
        text = as_json(bill(state, sources, version("embedkit")))
        if output is None:
            out.print(text, markup=False)
        else:
            output.write_text(text, encoding="utf-8")


def _known(flavour: str | None) -> str | None:
    from env.chooser import FLAVOURS
    from env.errors import PinError

    if flavour is not None and flavour not in FLAVOURS:
        raise PinError(f"--flavour {flavour} names no lock: use one of {', '.join(FLAVOURS)}")
    return flavour


def _here() -> "State":
    from env.state import running
    from ops.settings import ROOT

    return running(ROOT)


def _pinned_and_here() -> tuple["State", "State"]:
    """The pins, and this environment without the development tools as their lock has them."""
    from env.chooser import lock_path
    from env.diff import without
    from env.pins import read_pins
    from env.requirements import packages_of
    from env.state import pinned
    from ops.settings import ROOT

    here = _here()
    pins = pinned(ROOT, read_pins(ROOT), here.lock)
    tools = packages_of(lock_path("dev").read_text(encoding="utf-8"))
    return pins, without(here, {name: tools[name] for name in set(tools) - set(pins.packages)})
