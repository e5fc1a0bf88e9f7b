"""`embedkit deploy MODEL` and `embedkit rollback MODEL`: another archive in a served model's place, without a gap."""

import contextlib
import time
from dataclasses import dataclass

from archives.archive import read_config
from archives.placement import Need, misfits, overhead
from archives.progress import Progress
from env.hardware import Hardware, detect
from ops.deploy.converge import Converging, Limits
from ops.deploy.plan import bridge_name
from ops.desired import Served, desired_file, finish, previous_file, read_changes, read_models
from ops.errors import OpsError
from ops.exclusive import exclusive, lock_file
from ops.gateway.live import follow_models
from ops.prepare import prepare, spec_of
from ops.preparing import prepared
from ops.served import prune
from ops.settings import Settings
from ops.supervisor.control import Supervisor
from ops.torchserve.management import Management, ManagementError

# On top of a model's own start-up time: JVM, supervisord, the other models' loads.
START_ALLOWANCE_S = 60.0


@dataclass(frozen=True)
class Deployed:
    """What a deploy came to. `was` is the archive that served before, or that an interrupted deploy was bringing;
    `dropped` names versions that were removed while requests were still in flight on them."""

    model: str
    archive: str
    was: str
    changed: bool
    dropped: tuple[str, ...]
    seconds: float


def deploy_model(settings: Settings, model: str, progress: Progress, *, drain_s: float | None = None) -> Deployed:
    """Serve a model as models.toml has it now, in place of what is served.

    Raises:
        RefusedError: the new archive does not answer rightly; the old one goes on serving.
        OpsError, ArchivesError: what else keeps it from being deployed, with the next step.
    """
    spec = spec_of(settings, model)
    current, limits = _served(settings, model), Limits(spec.startup_timeout_s + START_ALLOWANCE_S, drain_s)
    with prepared(settings, lambda: prepare(spec, settings, detect(), progress), progress.say) as ready:
        now = _served(settings, model)
        if now != current:
            raise OpsError(
                f"{model}: {now.archive} took the place of {current.archive} while this prepared: "
                f"`embedkit deploy {model}` replaces that"
            )
        return _replace(settings, current, ready.served, ready.need, limits=limits, progress=progress)


def rollback_model(settings: Settings, model: str, progress: Progress, *, drain_s: float | None = None) -> Deployed:
    """Serve the archive that a model was served from before its last deploy, whether that has ended or was interrupted,
    at whatever point; a rollback that was interrupted is gone on with.

    Raises:
        OpsError: there is none, or what else keeps it from being served, with the next step.
    """
    spec = spec_of(settings, model)
    with exclusive(lock_file(settings), progress.say):
        current = _served(settings, model)
        limits = Limits(spec.startup_timeout_s + START_ALLOWANCE_S, drain_s)
        change = read_changes(settings).get(model)
        if change:
            progress.say(f"{model}: a change to {change.forth.archive} was interrupted: going back from it")
        previous = change.back if change else read_models(previous_file(settings)).get(model)
        if previous is None or (previous == current and not change):
            raise OpsError(f"{model}: there is no archive to go back to, {current.archive} is the only one")
        if not (settings.served / previous.archive).is_file():
            raise OpsError(
                f"{model}: {settings.served / previous.archive}, which it would go back to, is gone: `embedkit deploy "
                f"{model}` serves what models.toml says"
            )
        was, need = change.forth if change else current, need_of(settings, previous, detect())
        return _replace(settings, was, previous, need, limits=limits, progress=progress, rolling_back=True)


def need_of(settings: Settings, one: Served, hardware: Hardware) -> Need:
    """What an archive's workers take at most: the whole file, and what a worker takes beside its weights."""
    path = settings.served / one.archive
    config = read_config(path)
    on_gpu = bool(hardware.gpus) and config.get("deviceType") != "cpu"
    return Need(one.model, int(config["minWorkers"]), path.stat().st_size + overhead(on_gpu=on_gpu), on_gpu)


def _served(settings: Settings, model: str) -> Served:
    if not Supervisor(settings).runs("torchserve"):
        raise OpsError(f"TorchServe does not run, so nothing is replaced: `embedkit up {model}` starts it")
    current = read_models(desired_file(settings)).get(model)
    if current is None:
        raise OpsError(f"{model} is not served: `embedkit up {model}` adds it")
    return current


def check_room(settings: Settings, target: Served, need: Need, hardware: Hardware) -> None:
    """Refuse a second version that the memory is too small for; one that is loaded already has taken its part.

    Raises:
        OpsError: with the figures and the ways out.
    """
    with contextlib.suppress(ManagementError):  # a server that still starts has no second version
        loaded = Management(settings).describe(target.model)
        if any(one.archive == target.archive or one.version == bridge_name(target) for one in loaded):
            return
    problems = misfits([need], hardware)
    if problems:
        raise OpsError(
            f"{target.model}: the new version has to run beside the old one for a while, and there is no room: "
            f"{'; '.join(problems)}. Or take it out of service meanwhile: `embedkit down {target.model}`, then "
            f"`embedkit up {target.model}`"
        )


def _replace(
    settings: Settings,
    was: Served,
    target: Served,
    need: Need,
    *,
    limits: Limits,
    progress: Progress,
    rolling_back: bool = False,
) -> Deployed:
    started, model = time.monotonic(), target.model
    check_room(settings, target, need, detect())
    converging = Converging(settings, target, limits, progress, rolling_back=rolling_back)
    converging.run()
    prune(settings)
    follow_models(settings, read_models(desired_file(settings)).values(), progress.say)
    finish(settings, model)
    took, dropped = time.monotonic() - started, tuple(converging.dropped)
    return Deployed(model, target.archive, was.archive, target != was, dropped, took)
