"""`embedkit up`: from names to models that answer, changing nothing that is right already."""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from archives.catalogue import ModelSpec, find, load_catalogue
from archives.placement import Need, misfits
from archives.progress import Progress
from env.hardware import Hardware, detect
from env.jdk import find_jdk
from env.ports import port_is_free
from ops import observers
from ops.answering import wait_until_answering
from ops.deploy.command import START_ALLOWANCE_S, check_room, need_of
from ops.deploy.converge import Converging, Limits
from ops.deploy.plan import next_step
from ops.desired import Served, changes_file, commit, desired_file, read_models, rolled_back_file
from ops.errors import OpsError
from ops.exclusive import exclusive, keys_lock
from ops.gateway.keys import open_unless_decided
from ops.gateway.live import follow_models
from ops.gateway.program import files_now
from ops.preflight import preflight
from ops.prepare import Prepared, known_references, prepare, spec_of
from ops.preparing import prepared
from ops.private import keep_private
from ops.probe import Probe
from ops.served import prune
from ops.serving import Expected, wait_until_serving
from ops.settings import Settings, program_of
from ops.state_files import write_state
from ops.supervisor import config as supervisor_config
from ops.supervisor.control import Supervisor
from ops.supervisor.process import end_unsupervised
from ops.taken import Taken, inputs
from ops.torchserve.launcher import in_force
from ops.torchserve.management import Management, ManagementError


@dataclass(frozen=True)
class Up:
    """What `up` came to: the probe that each model answered, and how long it took, in seconds."""

    probes: Mapping[str, Probe]
    seconds: float


def wanted_specs(settings: Settings, names: Iterable[str]) -> dict[str, ModelSpec]:
    """The models that will be served: those already desired and those named; the default one where there are none.

    Raises:
        CatalogueError: models.toml is wrong or does not have a name.
        OpsError: a served model is no longer in it.
    """
    catalogue = load_catalogue(settings.models_file)
    served = read_models(desired_file(settings))
    chosen = [*served, *names] or [settings.default_model]
    gone = [name for name in served if name not in catalogue]
    if gone:
        raise OpsError(
            f"{gone[0]} is served and no longer in {settings.models_file}: put it back, or take it out of service "
            f"with `embedkit down {gone[0]}`"
        )
    return {name: find(catalogue, name) for name in chosen}


def write_settings(settings: Settings) -> None:
    """Leave the settings for the programs that read them, and for this user alone: alert_webhook may be a secret."""
    write_state(settings.file, settings.model_dump(mode="json"), mode=0o600)


def _optional(
    settings: Settings, supervisor: Supervisor, models: Iterable[Served], progress: Progress
) -> observers.Plan:
    """What of gateway, Prometheus, Alertmanager and Grafana runs; says why something does not.

    Raises:
        OpsError: one is `on` and cannot run, or the gateway would let anybody in.
    """
    ours: dict[str, int] = {}
    held = settings.ports
    if supervisor.running():
        with contextlib.suppress(OpsError):  # what it says to do is being done: the file is written anew
            held = in_force(settings).ports
        running = {one.name for one in supervisor.programs() if one.alive}
        ours = {listener: port for listener, port in held.items() if program_of(listener) in running}
    hosts = {settings.gateway_port: settings.gateway_host}
    planned = observers.plan(
        settings, ours=ours, port_is_free=lambda port: port_is_free(hosts.get(port, "127.0.0.1"), port)
    )
    for note in planned.notes:
        progress.say(note)
    gateway = next((one for one in planned.programs if one.name == "gateway"), None)
    if gateway is None:
        return planned
    files = files_now(settings, models, gateway.command[0])
    return replace(planned, files={**planned.files, "gateway": files})


def write_configuration(
    settings: Settings, supervisor: Supervisor, models: Iterable[Served], progress: Progress
) -> Taken:
    """Write what supervisord and its programs read; returns which of them have taken it.

    Raises:
        OpsError: see supervisor_config.install_in_environment and _optional.
    """
    optional = _optional(settings, supervisor, models, progress)
    write_settings(settings)
    supervisor_config.install_in_environment(settings, optional.programs)
    with exclusive(keys_lock(settings), progress.say):  # else a first key may be made between looking and opening
        if "gateway" in optional.files:
            open_unless_decided(settings)
        observers.write_files(optional.files)
    return Taken(settings, inputs(settings, optional.files))


def _converge(settings: Settings, goal: Iterable[Served], limits: Limits, progress: Progress) -> None:
    """Give a running TorchServe the models it does not have yet, or has in another archive; touch no other."""
    management, desired = Management(settings), read_models(desired_file(settings))
    for one in goal:
        with contextlib.suppress(ManagementError):
            served = next_step(one, management.describe(one.model), {one.version}) is None
            if served and desired.get(one.model) == one:
                continue
        Converging(settings, one, limits, progress).run()


def _start(settings: Settings, goal: Mapping[str, Served], limits: Limits, progress: Progress) -> None:
    """Bring supervisord and its programs to the configuration and the goal, which becomes the desired state: at once,
    but for a model whose archive has changed while it is served."""
    supervisor = Supervisor(settings)
    booting = not supervisor.running()
    if booting:
        end_unsupervised(settings, progress.say)
    served = {} if booting else read_models(desired_file(settings))
    # the gateway goes by what is served until that is replaced
    now = [served.get(name, one) for name, one in goal.items()]
    taken = write_configuration(settings, supervisor, now, progress)
    if booting:
        _commit(settings, goal.values())
        taken.mark(taken.stale())  # nothing runs: whatever starts from now on reads what was just written
        jdk = find_jdk(os.environ)
        progress.say(f"starting supervisord; Java {jdk.version} from {jdk.origin}{f': {jdk.note}' if jdk.note else ''}")
        supervisor.boot()
        return
    changes = supervisor.reread()
    if changes:
        progress.say(f"supervisord takes its changed configuration: {', '.join(changes.names)}")
        supervisor.take(changes)
        taken.mark(changes.started)
    for name in taken.stale():
        if name in observers.RELOADS:
            progress.say(f"{name} takes its changed configuration")
            supervisor.reload(name, observers.RELOADS[name])
        else:
            progress.say(f"settings have changed: restarting {name}")
            supervisor.stop(name)
        taken.mark([name])
    serving = supervisor.program("torchserve").alive
    _commit(settings, [one for name, one in goal.items() if not serving or name not in served])
    for program in supervisor.programs():
        if not program.alive:
            progress.say(f"starting {program.name}")
            supervisor.start(program.name)
    if serving:
        _converge(settings, goal.values(), limits, progress)
    follow_models(settings, goal.values(), progress.say)


def _commit(settings: Settings, goal: Iterable[Served]) -> None:
    for one in goal:
        commit(settings, one)


def settled(
    settings: Settings,
    ready: Mapping[str, Prepared],
    before: Mapping[str, Served],
    progress: Progress,
    hardware: Hardware,
) -> dict[str, Served]:
    """What is to be served of what was prepared, for which there is room; use it under the deployment's lock. Archives
    that were rolled back from are not, and what other commands have changed since `before` was desired stays theirs.

    Raises:
        OpsError: nothing is left of it, or there is no room, with the figures and the way out.
    """
    desired, left = read_models(desired_file(settings)), read_models(rolled_back_file(settings))
    changed = {name for name in desired.keys() | before.keys() if desired.get(name) != before.get(name)}
    goal = {name: one.served for name, one in ready.items()}
    for name in sorted(changed):
        if name in desired:
            if goal.get(name) != desired[name]:
                progress.say(f"{name}: another command brought {desired[name].archive} meanwhile, which stays")
            goal[name] = desired[name]
        elif goal.pop(name, None):
            progress.say(f"{name}: `embedkit down {name}` came meanwhile: it is left out")
    for name, one in goal.items():
        if left.get(name) == one != desired.get(name, one):
            goal[name] = desired[name]
            progress.say(f"{name}: stays with {desired[name].archive}, as it was rolled back; `embedkit deploy {name}`")
    if not goal:
        raise OpsError("each model was taken out of service while this prepared: `embedkit up NAME` serves one")
    needs = {name: ready[name].need if name in ready else need_of(settings, goal[name], hardware) for name in goal}
    _check_room(settings, needs, goal, hardware)
    return goal


def _check_room(settings: Settings, needs: Mapping[str, Need], goal: Mapping[str, Served], hardware: Hardware) -> None:
    """Refuse what does not fit beside what runs.

    Raises:
        OpsError: with the figures and the way out.
    """
    supervisor = Supervisor(settings)  # one that does not answer is replaced, with its programs
    serving = supervisor.running() and supervisor.runs("torchserve")
    served = read_models(desired_file(settings)) if serving else {}
    for name, one in goal.items():
        if name in served and served[name] != one:
            check_room(settings, one, needs[name], hardware)
    unfit = misfits((need for name, need in needs.items() if name not in served), hardware)
    if unfit:
        raise OpsError("cannot start:\n" + "\n".join(f"  {problem}" for problem in unfit))


def make_ready(
    settings: Settings, specs: Mapping[str, ModelSpec], progress: Progress, hardware: Hardware
) -> dict[str, Prepared]:
    """Have a verified archive of each model, changing nothing that is served.

    Raises:
        OpsError, ArchivesError: what keeps them from being served, with the next step.
    """
    preflight(settings)
    return {name: prepare(spec, settings, hardware, progress) for name, spec in specs.items()}


def bring_up(settings: Settings, names: Iterable[str], progress: Progress, hardware: Hardware | None = None) -> Up:
    """Serve the desired models and those named, and return when each has answered a real request rightly.

    Raises:
        OpsError, ArchivesError: what keeps it from serving, with the next step.
    """
    started = time.monotonic()
    supervisor_config.check_paths(settings)
    keep_private(settings)
    before = read_models(desired_file(settings))
    specs = wanted_specs(settings, names)
    machine = hardware or detect()
    with prepared(settings, lambda: make_ready(settings, specs, progress, machine), progress.say) as ready:
        goal = settled(settings, ready, before, progress, hardware or detect())  # minutes later, other memory is free
        startup_s = max(spec_of(settings, name).startup_timeout_s for name in goal) + START_ALLOWANCE_S
        _start(settings, goal, Limits(startup_s), progress)
        _, references = known_references(settings)
        probes = wait_until_serving(
            settings, {name: Expected(references[name], startup_s) for name in goal}, progress.say
        )
        wait_until_answering(settings, {name: references[name] for name in goal}, progress.say)
        prune(settings)
        changes_file(settings).unlink(missing_ok=True)
    return Up(probes, time.monotonic() - started)
