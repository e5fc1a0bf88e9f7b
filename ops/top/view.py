"""Figures → what is seen in the terminal."""

import time
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ops.console import table
from ops.top.figures import STAGES, Figures, ModelFigures


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def _of(part: float | None, whole: float | None) -> str:
    return "–" if part is None or whole is None else f"{part:.0f} of {whole:.0f}"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _bad(text: str, bad: bool) -> Text:
    return Text(text, style="bold red" if bad else "")


def _canary(model: ModelFigures) -> Text:
    told = model.canary
    if model.canary_cosine is not None:
        told += f", cosine {model.canary_cosine:.5f}"
    if model.canary == "failing" and model.canary_age_s is not None:
        told += f", last good {_age(model.canary_age_s)} ago"
    return _bad(told, model.canary == "failing")


def _models(models: Iterable[ModelFigures]) -> Table:
    shown = table("model", "req/s", "errors/s", "p50", "p99", "texts/s", "batch", "queue", "workers ready", "canary")
    for one in models:
        errors = ", ".join(f"{code}: {rate:.1f}" for code, rate in one.errors_per_s.items())
        short = one.workers_ready is None or one.workers_ready < (one.workers_wanted or 0)
        batch = "–" if one.mean_batch_texts is None else f"{one.mean_batch_texts:.1f}"
        shown.add_row(
            Text(one.model), f"{one.requests_per_s:.1f}", _bad(errors or "0", bool(errors)), _ms(one.p50_s),
            _ms(one.p99_s), f"{one.texts_per_s:.1f}", batch, _of(one.queue, one.queue_capacity),
            _bad(_of(one.workers_ready, one.workers_wanted), short), _canary(one),
        )  # fmt: skip
    return shown


def _stages(models: Iterable[ModelFigures]) -> Table:
    shown = table("where the time goes", *STAGES, "padding")
    for one in models:
        cells = [
            f"{one.stage_share[stage]:.0%}, p50 {_ms(one.stage_p50_s[stage])}" if one.stage_share else "–"
            for stage in STAGES
        ]
        shown.add_row(Text(one.model), *cells, "–" if one.padding_share is None else f"{one.padding_share:.0%}")
    return shown


def _programs(found: Figures, now: float) -> Table:
    shown = table("program", "state", "since", "last exit")
    for one in found.programs:
        since = _age(now - one.started_at) if one.started_at else "–"
        shown.add_row(one.program, _bad(one.state, one.state not in {"RUNNING", "STARTING"}), since,
                      str(one.exit_status))  # fmt: skip
    return shown


def _gpus(found: Figures) -> Table:
    shown = table("GPU", "busy", "memory", "power", "temperature", "held down by")
    for one in found.gpus:
        memory = "–" if one.memory_used is None else f"{one.memory_used / 2**30:.1f} of {one.memory_total or 0:.0f}"
        if one.memory_used is not None and one.memory_total:
            memory = f"{one.memory_used / 2**30:.1f} of {one.memory_total / 2**30:.1f} GiB"
        shown.add_row(
            f"{one.name} {one.uuid[:12]}", "–" if one.utilization is None else f"{one.utilization:.0%}", memory,
            "–" if one.power_watts is None else f"{one.power_watts:.0f} W",
            "–" if one.temperature is None else f"{one.temperature:.0f} °C",
            _bad(", ".join(one.throttled) or "–", bool(one.throttled)),
        )  # fmt: skip
    return shown


def view(found: Figures, now: float | None = None) -> RenderableType:
    """The whole screen; `now` in Unix time."""
    now = time.time() if now is None else now
    state = "answers" if found.torchserve_up else "does not answer: `embedkit status` says why"
    memory = "–" if found.memory_available is None else f"{found.memory_available / 2**30:.1f} GiB"
    load = "–" if found.load1 is None else f"{found.load1:.1f}"
    head = Text.assemble(
        "TorchServe ",
        _bad(state, not found.torchserve_up),
        f" · last {found.interval_s:.0f} s · load {load} · {memory} free · {found.other_per_s:.1f} other req/s",
    )
    parts: list[RenderableType] = [head, "", _models(found.models), "", _stages(found.models), ""]
    if found.worker_starts:
        parts += [_bad(f"{found.worker_starts} workers were started in this time", True), ""]
    if found.watchdog_actions:
        parts += [_bad(f"the watchdog acted {found.watchdog_actions} times: its log says why", True), ""]
    if found.watchdog_paused:
        parts += [_bad("the watchdog is paused: `embedkit status` says why, `embedkit resume` ends it", True), ""]
    parts.append(_programs(found, now))
    if found.gpus:
        parts += ["", _gpus(found)]
    if found.sources_down:
        parts += ["", _bad(f"no answer from: {', '.join(found.sources_down)}", True)]
    return Group(*parts)
