"""`embedkit tune`. To be registered by the command line with `app.command()(tune)`."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ops.tune.plan import Plan
    from ops.tune.result import Result


def tune(
    model: Annotated[str, typer.Argument(help="a model of archives/models.toml")],
    *,
    p99: Annotated[str, typer.Option("--p99", help="the aim: 99 % of the answers within this, such as 50ms")],
    limit: Annotated[str, typer.Option("--limit", help="how long to search, such as 90s or 5m")] = "5m",
    profile: Annotated[str, typer.Option("--profile", help="short, mixed or passages")] = "mixed",
    load: Annotated[float, typer.Option("--load", help="share of a candidate's ceiling at which p99 is judged")] = 0.7,
    candidates: Annotated[int | None, typer.Option("--candidates", min=1, help="try at most so many")] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="measure the leaders so many times")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="another seed, other texts and arrivals")] = 1,
    write: Annotated[bool, typer.Option("--write", help="put the chosen values into models.toml")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON document on stdout")] = False,
) -> None:
    """Search the layout and batching that serve MODEL best on this machine; write a report under var/tune/."""
    from ops.cli import told
    from ops.console import Reporter, out, print_json
    from ops.settings import load_settings
    from ops.torchserve.launcher import in_force
    from ops.tune import write as models_toml
    from ops.tune.run import tune as search

    with told(), _ended_in_order():
        settings = in_force(load_settings())
        plan = replace(
            chosen(p99=p99, limit=limit, profile=profile, load=load, seed=seed), candidates=candidates, runs=runs
        )
        result = search(settings, model, plan, Reporter())
        if write and result.ok and result.changes:
            models_toml.write(settings.models_file, model, result.changes)
            result = replace(result, written=True)
        page = save(result, settings.var / "tune")
        if json:
            print_json(result)
        else:
            _print(result, out)
            out.print(f"report {page}", markup=False)
        if result.ended == "interrupted":
            raise typer.Exit(130)
        if not result.ok:
            raise typer.Exit(1)


def chosen(*, p99: str, limit: str, profile: str, load: float, seed: int) -> "Plan":
    """The plan that the flags ask for.

    Raises:
        OpsError: a duration, the profile or the share cannot be used; names the flag, its value and what is allowed.
    """
    from ops.bench.options import known_profiles
    from ops.durations import seconds_of
    from ops.errors import OpsError
    from ops.tune.plan import Plan

    if not 0.1 <= load <= 0.95:
        raise OpsError(f"--load {load:g}: a share from 0.1 to 0.95 is needed; nearer to 1 there is nothing but waiting")
    return Plan.within(
        seconds_of(limit, "--limit"),
        profile=known_profiles([profile])[0],
        seed=seed,
        load=load,
        p99_s=seconds_of(p99, "--p99"),
    )


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """A SIGTERM or a closed terminal ends the search as Ctrl-C does: nothing is left running."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    kept = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def save(result: "Result", folder: Path) -> Path:
    """result.json and report.html in a folder of their own below this one; returns the page's path."""
    from ops.bench.page import write_report
    from ops.tune.report import render

    return write_report(result, result.started_at, folder, render)


def _print(result: "Result", out: Any) -> None:
    from ops.console import table

    shown = table("workers", "threads", "batch", "delay", "budget", "texts/s", "p99", "runs", "")
    for row in result.rows:
        one = row.candidate
        figures = ("–", "–")
        if row.texts_per_s is not None and row.p99_s is not None:
            colour = "green" if row.meets else "red"
            figures = (f"{row.texts_per_s:.0f}", f"[{colour}]{row.p99_s * 1000:.1f} ms[/{colour}]")
        marks = ["[bold]chosen[/bold]"] if row.chosen else []
        marks += ["frontier"] if row.frontier else []
        marks += ["now"] if row.current else []
        marks += [_plain(f"out: {row.reason.splitlines()[0]}")] if row.reason else []
        shown.add_row(
            str(one.workers),
            str(one.threads),
            str(one.batch_size),
            f"{one.max_batch_delay_ms} ms",
            str(one.token_budget),
            *figures,
            str(len(row.runs)),
            ", ".join(marks),
        )
    out.print(shown)
    out.print(f"\n{result.headline}", markup=False)
    for line in _next(result):
        out.print(line, markup=False)


def _next(result: "Result") -> list[str]:
    if result.chosen is None:
        share = f"{result.plan.load:.0%}"
        return [
            f"try a longer --p99, or a --load below {share}: fewer texts a second of the same ceiling, answered sooner"
        ]
    if not result.changes:
        return []
    keys = ", ".join(f"{key} = {value}" for key, value in result.changes.items())
    if result.written:
        return [f"wrote to models.toml: {keys}", f"to serve with it: embedkit up {result.model}"]
    return [f"models.toml was not changed; --write would set {keys}"]


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
