"""The whole tuning of one model: what can be had before the clock runs, then trials until the limit."""

import datetime
import time
from collections.abc import Callable
from dataclasses import replace

from archives.catalogue import ModelSpec
from archives.fetch import fetch
from archives.placement import BYTES_PER_WEIGHT, layout, misfits, need
from archives.progress import Progress
from archives.resolve import Resolution, resolve
from archives.snapshot import Snapshot
from archives.store import locked
from env.hardware import Hardware, detect
from ops.bench import machine
from ops.exclusive import exclusive
from ops.preflight import kit_runs
from ops.prepare import lock_info, spec_of
from ops.settings import Settings
from ops.tune.clock import Schedule
from ops.tune.frontier import Run, Trial, choose, nearest
from ops.tune.material import Material
from ops.tune.plan import Plan
from ops.tune.private import CandidateError, PrivateServer, private_settings
from ops.tune.result import Ended, Result, headline, rows
from ops.tune.space import Candidate, dimensions, start_of
from ops.tune.trial import Bench, OutOfTime
from ops.tune.write import changes

# plain sentence-transformers keeps to the model's own limit below this.
_NO_LIMIT = 1_000_000


def tune(settings: Settings, model: str, plan: Plan, progress: Progress) -> Result:
    """Search on this machine; the running service and its archives stay as they are, and nothing is left running.

    Raises:
        OpsError: the limit holds not one trial, or the private server does not start.
        ArchivesError: no such model, or it cannot be fetched or converted.
        KeyboardInterrupt: interrupted before the first trial.
    """
    started, started_at = time.monotonic(), datetime.datetime.now(datetime.UTC)
    spec, hardware = spec_of(settings, model), detect()
    ran_on = machine.look(hardware)
    if kit_runs(settings):
        progress.say(
            f"the service of {settings.var} runs; it is not touched, but shares the cores: "
            f"{ran_on.busy_before:.0%} of them are busy now, and figures are better after `embedkit down`"
        )
    snapshot = fetch(spec, settings.store, progress=progress)
    placed = layout(spec, hardware)
    with locked(settings.store, spec.name):
        engine = resolve(spec, snapshot, settings.store, placed, progress=progress)
    if engine.device == "cpu":
        spec, placed = spec.model_copy(update={"device": "cpu"}), placed.on("cpu")
    plan.check(snapshot.parameters * BYTES_PER_WEIGHT[engine.dtype], placed.workers)
    progress.say(f"{spec.name}: {engine.backend} {engine.dtype} on {hardware.cores} cores, {plan.profile} texts")
    with exclusive(settings.run / "tune.lock", progress.say):
        private = private_settings(settings)
        # What the JVM may take is not there for workers.
        room = replace(hardware, memory_bytes=hardware.memory_bytes - (private.jvm_heap_mb << 20))
        deadline = time.monotonic() + plan.limit_s
        with PrivateServer(private) as server:
            material = Material(
                snapshot.root,
                profile=plan.profile,
                seed=plan.seed,
                kept=plan.kept,
                max_tokens=spec.max_tokens or _NO_LIMIT,
                cores=hardware.cores,
            )
            bench = Bench(server, spec, snapshot, engine, lock_info(), hardware, plan, material, deadline, progress)
            unfit = _unfit(spec, engine, snapshot, room)
            ladders = dimensions(spec, hardware, plan.p99_s)
            schedule = Schedule(
                start_of(spec, hardware), ladders, plan.p99_s, plan.limit_s, most=plan.candidates, runs=plan.runs
            )
            done, ended = search(schedule, bench.measure, unfit, plan=plan, deadline=deadline, progress=progress)
    current, trials = schedule.start, list(done.values())
    chosen, near = choose(trials, plan.p99_s), nearest(trials)
    others = max((run.others for one in trials for run in one.runs), default=0.0)
    return Result(
        headline=headline(spec.name, trials, current, plan, ended=ended, others=others),
        model=spec.name,
        ended=ended,
        plan=plan,
        current=current,
        chosen=chosen.candidate if chosen else None,
        nearest=near.candidate if near and not chosen else None,
        rows=rows(trials, current, plan.p99_s),
        changes=changes(current, chosen.candidate) if chosen else {},
        written=False,
        requests=bench.requests,
        others=others,
        engine=f"{engine.backend} {engine.dtype}",
        started_at=started_at.isoformat(timespec="seconds"),
        seconds=time.monotonic() - started,
        machine=ran_on,
        settings=settings.model_dump(mode="json"),
    )


def _unfit(spec: ModelSpec, engine: Resolution, snapshot: Snapshot, room: Hardware) -> Callable[[Candidate], list[str]]:
    """What of a candidate does not fit this memory, a sentence each."""
    served = spec.model_copy(update={"backend": engine.backend, "dtype": engine.dtype})

    def problems(candidate: Candidate) -> list[str]:
        wanted = candidate.spec(served)
        return misfits([need(wanted, layout(wanted, room), snapshot.parameters)], room)

    return problems


def search(
    schedule: Schedule,
    measure: Callable[[Candidate], Run],
    unfit: Callable[[Candidate], list[str]],
    *,
    plan: Plan,
    deadline: float,
    progress: Progress,
) -> tuple[dict[Candidate, Trial], Ended]:
    """Trials until the schedule or the clock ends them, or somebody interrupts.

    Raises:
        KeyboardInterrupt: interrupted with nothing to report.
    """
    done: dict[Candidate, Trial] = {}
    try:
        while (candidate := schedule.next(done, deadline - time.monotonic())) is not None:
            before = done.get(candidate, Trial(candidate))
            say = f"{'again' if before.runs else f'candidate {len(done) + 1}'}: {candidate}"
            progress.say(f"{say} …")
            if problems := unfit(candidate):
                done[candidate] = replace(before, reason=f"skipped: {'; '.join(problems)}")
            else:
                try:
                    run = measure(candidate)
                except CandidateError as error:
                    done[candidate] = replace(before, reason=str(error))
                else:
                    done[candidate] = replace(before, runs=(*before.runs, run))
            left = max(0.0, deadline - time.monotonic())
            reason = done[candidate].reason
            progress.say(f"  {f'out: {reason}' if reason else describe(run, plan)}; {left:.0f} s left")
    except OutOfTime:
        return done, "time"
    except KeyboardInterrupt:
        if not done:
            raise
        return done, "interrupted"
    return done, schedule.ending(done)


def describe(run: Run, plan: Plan) -> str:
    """A run in a line."""
    verdict = "meets" if run.p99_s <= plan.p99_s else "misses"
    return (
        f"{run.texts_per_s:.0f} texts a second; p99 {run.p99_s * 1000:.1f} ms at {run.rate:.0f} a second "
        f"({verdict} {plan.p99_s * 1000:g} ms); {run.checked} vectors right; it took {run.seconds:.0f} s"
    )
