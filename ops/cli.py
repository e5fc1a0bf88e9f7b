"""The `embedkit` command: arguments in, tables or JSON out, exit status 0 only on success."""

import contextlib
import errno
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from archives.errors import ArchivesError
from env.errors import PinError
from env.jdk import JdkError
from ops.bench.command import bench
from ops.bundle.command import bundle
from ops.bundle.install import BundleError
from ops.console import Reporter, err, out, print_json, table
from ops.environment import environment
from ops.errors import OpsError
from ops.gateway.command import key
from ops.private import refuse_writers
from ops.settings import Settings, load_settings
from ops.systemd.command import systemd
from ops.tune.command import tune

app = typer.Typer(
    name="embedkit",
    help="Serve Hugging Face embedding models with TorchServe, under supervision.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
DrainTimeout = Annotated[
    float | None,
    typer.Option(min=0, help="seconds for what is in flight; without it the model's response timeout and 30 s"),
]
Model = Annotated[str, typer.Argument(help="a model of archives/models.toml")]


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what a user can cause into a message and exit status 1."""
    try:
        yield
    except (OpsError, ArchivesError, JdkError, PinError, BundleError) as error:
        err.print(f"[red]embedkit:[/red] {_plain(str(error))}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        err.print("embedkit: interrupted")
        raise typer.Exit(130) from None
    except OSError as error:
        err.print(f"[red]embedkit:[/red] {_plain(_of_the_system(error))}")
        raise typer.Exit(1) from error


def _of_the_system(error: OSError) -> str:
    said = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    return f"{said}: free some; `df -h` says where" if error.errno == errno.ENOSPC else said


def running_settings() -> Settings:
    """What the service below this var/ was brought up with, so that a flag given to `up` is known to the others."""
    from ops.torchserve.launcher import in_force

    return in_force(load_settings())


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


@app.command()
def up(
    model: Annotated[list[str] | None, typer.Argument(help="models to add to what is served")] = None,
    host: Annotated[str | None, typer.Option(help="address that inference listens on")] = None,
    inference_port: Annotated[int | None, typer.Option(help="port of the inference API")] = None,
    json: Json = False,
) -> None:
    """Fetch, pack, verify and serve; return when a real text has come back as the right vector."""
    from ops.up import bring_up

    with told():
        settings = load_settings({"host": host, "inference_port": inference_port})
        done = bring_up(settings, model or [], Reporter())
        if json:
            print_json({"seconds": done.seconds, "models": done.probes, "ports": settings.ports})
            return
        _print_up(settings, done.probes)
        out.print(f"\nUp in {done.seconds:.1f} s. Try next:")
        for command in _next_commands(settings, next(iter(done.probes))):
            out.print(f"  {_plain(command)}")


@app.command()
def run(
    model: Annotated[list[str] | None, typer.Argument(help="serve exactly these; none: those served last")] = None,
    server: Annotated[bool, typer.Option("--server", help="TorchServe alone, without supervisord")] = False,
) -> None:
    """Fetch, pack, verify, then become the service in the foreground: for a container or another supervisor."""
    from ops.foreground import run_service

    with told():
        run_service(load_settings(), model or [], Reporter(), server=server)


@app.command()
def health(json: Json = False) -> None:
    """Send a real request to each served model, with or without supervisord; exit 0 only on right vectors."""
    from ops.health import ask_all
    from ops.supervisor.process import unanswering

    with told():
        settings = running_settings()
        probes = ask_all(settings)
        if json:
            print_json({"ok": all(one.ok for one in probes), "models": probes})
        else:
            for one in probes:
                found = f"right, {one.latency_s * 1000:.0f} ms" if one.ok else one.error
                out.print(_plain(f"{one.model}: {found}"))
        if not all(one.ok for one in probes):
            if silent := unanswering(settings):
                err.print(f"[red]embedkit:[/red] {_plain(str(silent))}")
            raise typer.Exit(1)


def _next_commands(settings: Settings, model: str) -> list[str]:
    from ops.supervisor.config import supervisorctl

    url = settings.inference_url(f"/predictions/{model}")
    commands = [
        f"""curl -H 'Content-Type: application/json' {url} -d '{{"input": "How are vectors made?"}}'""",
        "embedkit embed 'a cat' 'a kitten' 'a bank loan'",
        f"{supervisorctl(settings)} status",
    ]
    on_path = shutil.which("embedkit") == str(Path(sys.prefix) / "bin" / "embedkit")
    return commands if on_path else [commands[0], f"source {shlex.quote(f'{sys.prefix}/bin/activate')}", *commands[1:]]


def _print_up(settings: Settings, probes: Any) -> None:
    from ops.gateway.keys import read_keys
    from ops.supervisor.control import Supervisor

    programs = {one.name: one for one in Supervisor(settings).programs()}
    shown = table("what", "state", "port", "log")
    for name, program in programs.items():
        ports = ", ".join(f"{listener} {port}" for listener, port in settings.ports_of(name).items())
        state = f"runs, pid {program.pid}" if program.alive else program.state
        shown.add_row(name, state, ports, program.log)
    for name, found in probes.items():
        answer = f"answers in {found.latency_s * 1000:.0f} ms, cosine {found.cosine:.6f}"
        shown.add_row(f"model {name}", answer, str(settings.inference_port), str(settings.logs / "model.log"))
    out.print(shown)
    if "gateway" in programs:
        needed = "no key is needed" if read_keys(settings) is None else "a key is needed: `embedkit key add NAME`"
        out.print(f"\nfor all models: {_plain(settings.gateway_url('/v1'))}  ({needed})")


@app.command()
def deploy(model: Model, drain_timeout: DrainTimeout = None, json: Json = False) -> None:
    """Serve a model as models.toml has it now, in place of what is served, without a failed request."""
    from ops.deploy.command import deploy_model

    with told():
        _print_deployed(deploy_model(running_settings(), model, Reporter(), drain_s=drain_timeout), json=json)


@app.command()
def rollback(model: Model, drain_timeout: DrainTimeout = None, json: Json = False) -> None:
    """Serve the archive that a model was served from before, without a failed request."""
    from ops.deploy.command import rollback_model

    with told():
        _print_deployed(rollback_model(running_settings(), model, Reporter(), drain_s=drain_timeout), json=json)


def _print_deployed(done: Any, *, json: bool) -> None:
    if json:
        print_json(done)
        return
    for version in done.dropped:
        err.print(f"embedkit: {done.model}: version {version} may have had requests in flight, which got an error")
    if done.changed:
        out.print(f"{done.model}: {done.archive} in place of {done.was}, in {done.seconds:.1f} s")
    else:
        out.print(f"{done.model}: {done.archive} serves, nothing to change")


@app.command()
def down(
    model: Annotated[list[str] | None, typer.Argument(help="only take these out of service")] = None,
    drain: Annotated[bool, typer.Option("--drain", help="refuse new requests and let accepted ones finish")] = False,
    drain_timeout: DrainTimeout = None,
    json: Json = False,
) -> None:
    """Stop the service and leave no process, port or temp folder behind; or take single models out of it."""
    from ops.down import Drain, bring_down, take_out

    with told():
        reporter = Reporter()
        try:
            settings = running_settings()
        except OpsError as error:
            if model:
                raise
            settings = load_settings()  # what runs below this var/ is found without the file
            reporter.say(f"{error}; stopping what is there")
        drained = Drain(drain_timeout) if drain else None
        shown: dict[str, Any]
        if model:
            left, dropped = take_out(settings, model, reporter, drained)
            shown, text = {"serving": left}, f"still serving: {', '.join(left) or 'nothing'}"
        else:
            done = bring_down(settings, reporter.say, drained)
            dropped = list(done.dropped)
            shown, text = {"stopped": done.ran}, "stopped" if done.ran else "nothing was running"
        if json:
            print_json({**shown, "dropped": dropped})
        else:
            out.print(text)
        for one in dropped:
            err.print(f"[red]embedkit:[/red] in flight when it was stopped: {one}")
        if dropped:
            raise typer.Exit(1)


@app.command()
def status(json: Json = False) -> None:
    """Show processes, workers, devices, models and the last real answer; exit 0 only if everything serves."""
    from ops.prepare import known_references
    from ops.status import look

    with told():
        settings = running_settings()
        desired, references = known_references(settings)
        found = look(settings, desired, references)
        if json:
            models = [{**_fields(model), "ok": model.ok} for model in found.models]
            print_json({**_fields(found), "models": models, "ok": found.ok})
        else:
            _print_status(settings, found)
        if not found.ok:
            raise typer.Exit(1)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "none yet"
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def _print_status(settings: Settings, found: Any) -> None:
    if found.programs:
        programs = table("program", "state", "pid", "up", "log")
        for one in found.programs:
            programs.add_row(one.name, one.state, str(one.pid), f"{one.uptime_s} s", one.log)
        out.print(programs)
        out.print()
    if found.models:
        models = table("model", "version", "workers", "device", "memory", "queue", "last answer", "answer now")
        for one in found.models:
            last = _ago(one.last_answer_age_s)
            if one.last_answer_latency_s is not None:
                last += f", {one.last_answer_latency_s * 1000:.1f} ms"
            now = f"{one.probe.latency_s * 1000:.0f} ms, right" if one.probe.ok else one.probe.error
            workers = f"{one.workers_ready} of {one.workers_wanted} ready"
            memory, queue = f"{one.memory_bytes >> 20} MB", f"{one.queue_pending} waiting"
            models.add_row(one.model, one.version, workers, ", ".join(one.devices) or "?", memory, queue, last, now)
        out.print(models)
        for one in found.models:
            if one.device_reason:
                said = f"{one.model}: {one.device_reason}; {one.fingerprint}"
                if one.max_request_tokens:
                    said += f"; a request: up to {one.max_request_tokens} tokens of full-length texts"
                out.print(f"[dim]{_plain(said)}[/dim]")
    if found.door:
        doors = {"open": "open, no key is needed", "closed": "closed, a key is needed", "silent": "does not answer"}
        out.print(f"gateway {settings.gateway_url()}: {doors[found.door]}", markup=False)
    for note in found.notes:
        err.print(f"embedkit: {_plain(note)}")
    if found.problem:
        err.print(f"[red]embedkit:[/red] {_plain(found.problem)}")


@app.command()
def pause(
    reason: Annotated[list[str] | None, typer.Argument(help="why, for whoever looks at `embedkit status`")] = None,
    duration: Annotated[str | None, typer.Option("--for", help="resume by itself after 30m, 2h, …")] = None,
    json: Json = False,
) -> None:
    """Maintenance: the watchdog looks and does not act until `embedkit resume`."""
    from ops.durations import seconds_of
    from ops.pause import Pause
    from ops.pause import pause as switch_on

    with told():
        now = time.time()
        until = None if duration is None else now + seconds_of(duration, "--for")
        made = Pause(" ".join(reason or []), now, until)
        switch_on(running_settings(), made)
        if json:
            print_json(made)
        else:
            out.print(_plain(made.said(now)))


@app.command()
def resume(json: Json = False) -> None:
    """End `embedkit pause`."""
    from ops.pause import resume as switch_off

    with told():
        was_on = switch_off(running_settings())
        if json:
            print_json({"was_paused": was_on})
        else:
            out.print("the watchdog acts again" if was_on else "the watchdog was not paused")


@app.command()
def embed(
    text: Annotated[list[str], typer.Argument(help="one or more texts; - reads lines from standard input")],
    model: Annotated[str | None, typer.Option(help="which served model")] = None,
    prompt_name: Annotated[str | None, typer.Option(help="query or document, as models.toml names them")] = None,
    json: Json = False,
) -> None:
    """Embed texts through the running service; with several, show how alike they are."""
    from ops.embed import embed_texts, similarity

    with told():
        settings = running_settings()
        texts = [line.rstrip("\n") for line in sys.stdin] if text == ["-"] else text
        answer = embed_texts(settings, texts, model=model, prompt_name=prompt_name)
        if json:
            print_json(answer.body)
            return
        out.print(f"{len(texts)} × {answer.dimensions} numbers from {answer.model} in {answer.latency_s * 1000:.0f} ms")
        out.print(f"[dim]{_plain(answer.fingerprint)}[/dim]")
        for line, vector in zip(texts, answer.vectors, strict=True):
            head = ", ".join(f"{number:+.4f}" for number in vector[:6])
            out.print(f"  {_plain(f'[{head}, …]  {line[:60]}')}")
        if len(texts) > 1:
            shown = table("cosine", *(str(number) for number in range(1, len(texts) + 1)))
            for number, row in enumerate(similarity(answer.vectors), 1):
                shown.add_row(str(number), *(f"{value:.3f}" for value in row))
            out.print(shown)


@app.command()
def fetch(
    model: Model,
    refresh: Annotated[bool, typer.Option(help="ask the hub where a branch is now")] = False,
    json: Json = False,
) -> None:
    """Have a model's files: from the hub, a folder or a package."""
    from ops.prepare import fetch_model

    with told():
        snapshot = fetch_model(load_settings(), model, Reporter(), refresh=refresh)
        if json:
            print_json(snapshot)
            return
        out.print(f"{model}: {len(snapshot.files)} files, {snapshot.bytes >> 20} MB, revision {snapshot.revision}")
        out.print(f"  {snapshot.root}")


@app.command()
def pack(
    model: Model,
    anew: Annotated[
        bool, typer.Option("--anew", help="choose backend and dtype and pack again, whatever is kept")
    ] = False,
    json: Json = False,
) -> None:
    """Make a model's archive from its files; the same input gives the same bytes."""
    from ops.prepare import pack_model

    with told():
        packed = pack_model(load_settings(), model, Reporter(), anew=anew)
        if json:
            print_json({"path": packed.path, "sha256": packed.sha256, "changed": packed.changed})
        else:
            out.print(f"{packed.path}\n  sha256 {packed.sha256}{'' if packed.changed else ' (was current)'}")


@app.command()
def verify(model: Model, json: Json = False) -> None:
    """Load a model's archive in a process of its own, embed, and compare with sentence-transformers."""
    from ops.prepare import verify_model

    with told():
        found = verify_model(load_settings(), model, Reporter())
        if json:
            print_json(
                {"fingerprint": found.fingerprint, "min_cosine": found.min_cosine, "sha256": found.archive_sha256}
            )
        else:
            out.print(f"{model}: right, smallest cosine {found.min_cosine:.7f}; {_plain(found.fingerprint)}")


@app.command()
def accept(model: Model, json: Json = False) -> None:
    """Fetch, pack, verify, serve a model and check that its vectors make sense, on the device that was asked for."""
    from ops.accept import accept_model

    with told():
        report = accept_model(load_settings(), model, Reporter())
        if json:
            print_json(report)
        else:
            shown = table("check", "", "found")
            for one in report.checks:
                shown.add_row(one.check, "ok" if one.ok else "[red]FAIL[/red]", _plain(one.detail))
            out.print(shown)
        if not report.ok:
            raise typer.Exit(1)


@app.command()
def doctor(json: Json = False) -> None:
    """Check the environment, a line a check; a failure names the command that mends it."""
    from ops.doctor import examine

    with told():
        findings = []
        for one in examine(load_settings()):
            findings.append(one)
            if not json:
                mark = {"ok": "[green]ok[/green]  ", "note": "[yellow]note[/yellow]", "fail": "[red]FAIL[/red]"}[
                    one.status
                ]
                out.print(f"{mark} {one.check:<20} {_plain(one.detail)}")
                if one.fix:
                    out.print(f"     {'':<20} mend it: {_plain(one.fix)}")
        failed = [one for one in findings if one.status == "fail"]
        if json:
            print_json({"ok": not failed, "findings": findings})
        if failed:
            raise typer.Exit(1)


@app.command()
def top(
    once: Annotated[bool, typer.Option("--once", help="show one interval and end")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="seconds between two looks")] = 2.0,
    json: Json = False,
) -> None:
    """Watch rate, latency, stages, queue, workers, canaries, GPUs and restarts, live; --json looks once."""
    from ops.top.command import look_once, show

    with told():
        settings = running_settings()
        if json:
            print_json(look_once(settings, interval))
        else:
            show(settings, interval, once=once)


app.command()(bench)
app.command()(tune)
app.command()(systemd)
app.add_typer(key, name="key")
app.add_typer(environment, name="env")
app.add_typer(bundle)


def main() -> None:
    """Entry point of the `embedkit` script."""
    refuse_writers()
    app()
