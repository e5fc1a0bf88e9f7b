"""`embedkit bench`. To be registered by the command line with `app.command()(bench)`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ops.bench.options import Options
    from ops.bench.result import Result


def bench(
    model: Annotated[str | None, typer.Argument(help="a served model; left out: the only or the default one")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="a look in under two minutes")] = False,
    profile: Annotated[list[str] | None, typer.Option(help="short, mixed, passages or long; may be repeated")] = None,
    seed: Annotated[int, typer.Option(help="another seed, other texts and arrivals")] = 1,
    repeats: Annotated[int | None, typer.Option(min=1, help="closed loop and bound so many times")] = None,
    peers: Annotated[bool, typer.Option("--peers", help="infinity, mosec and litserve too; installs them")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON document on stdout")] = False,
) -> None:
    """Measure the running service against the same model in process; write a report under var/bench/."""
    from ops.bench.run import bench as measure
    from ops.cli import told
    from ops.console import Reporter, out, print_json
    from ops.settings import load_settings
    from ops.torchserve.launcher import in_force

    with told():
        settings = in_force(load_settings())
        options = chosen(quick=quick, seed=seed, profiles=profile or [], repeats=repeats, peers=peers)
        result = measure(settings, model, options, Reporter())
        page = write(result, settings.var / "bench")
        if json:
            print_json(result)
        else:
            out.print(result.headline, markup=False)
            for bar in result.bars:
                sign, mark = ("≥" if bar.better == "higher" else "≤"), ("met   " if bar.met else "MISSED")
                out.print(f"  {mark} {bar.what}: {bar.found:.3f} ({sign} {bar.limit:.3f})", markup=False)
            out.print(f"report {page}", markup=False)
        if not result.ok:
            raise typer.Exit(1)


def chosen(*, quick: bool, seed: int, profiles: list[str], repeats: int | None, peers: bool) -> "Options":
    """The plan that the flags ask for.

    Raises:
        OpsError: there is no such profile.
    """
    from dataclasses import replace

    from ops.bench.options import Options, known_profiles
    from ops.bench.peers import PEERS

    options = Options.short(seed) if quick else Options.full(seed)
    return replace(
        options,
        profiles=known_profiles(profiles) or options.profiles,
        repeats=options.repeats if repeats is None else repeats,
        peers=tuple(PEERS) if peers else (),
    )


def write(result: "Result", folder: Path) -> Path:
    """result.json and report.html in a folder of their own below this one; returns the page's path."""
    from ops.bench.page import write_report
    from ops.bench.report import render

    return write_report(result, result.started_at, folder, render)
