"""`embedkit up`: from names to models that answer, changing nothing that is right already."""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import orjson

from archives.catalogue import ModelSpec, find, load_catalogue
from archives.progress import Progress
from archives.store import write_whole
from env.checks import port_is_free
from env.hardware import Hardware, detect
from env.jdk import find_jdk
from ops import observers
from ops.desired import Served, applied_file, desired_file, read_models, write_models
from ops.errors import OpsError
from ops.exclusive import exclusive
from ops.gateway.program import files_now
from ops.preflight import preflight
from ops.prepare import Prepared, misfits, prepare
from ops.probe import Probe
from ops.served import prune
from ops.serving import Expected, wait_until_serving
from ops.settings import Settings, program_of
from ops.supervisor import config as supervisor_config
from ops.supervisor.control import Supervisor
from ops.taken import Taken, inputs
from ops.torchserve import leftovers
from ops.torchserve.launcher import in_force, settings_file
from ops.torchserve.management import Management, ManagementError

# On top of a model's own start-up time: JVM, supervisord, the other models' loads.
START_ALLOWANCE_S = 60.0


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


def _write_settings(settings: Settings) -> None:
    """Leave the settings for the programs that read them, and for this user alone: alert_webhook may be a secret."""
    content = orjson.dumps(settings.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    write_whole(settings_file(settings), content, mode=0o600)


def _optional(settings: Settings, supervisor: Supervisor, models: Iterable[str], progress: Progress) -> observers.Plan:
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
    planned = observers.plan(settings, ours=ours, port_is_free=lambda port: port_is_free("127.0.0.1", port))
    for note in planned.notes:
        progress.say(note)
    gateway = next((one for one in planned.programs if one.name == "gateway"), None)
    if gateway is None:
        return planned
    files = files_now(settings, models, gateway.command[0])
    return replace(planned, files={**planned.files, "gateway": files})


def _load_changed(settings: Settings, desired: Mapping[str, Served], startup_s: float, progress: Progress) -> None:
    """Give a running TorchServe the models it does not have yet, or has in another archive; touch no other."""
    applied = read_models(applied_file(settings))
    management = Management(settings, timeout_s=startup_s)
    try:
        registered = set(management.models())
    except ManagementError:
        return  # it is still starting, from the desired state
    for one in desired.values():
        if applied.get(one.model) == one and one.model in registered:
            continue
        for loaded in management.describe(one.model):
            progress.say(f"{one.model}: replacing version {loaded.version}, its archive has changed")
            management.unregister(one.model, loaded.version)
        progress.say(f"{one.model}: adding it to the running server")
        management.register(one.model, one.archive)
        applied[one.model] = one
        write_models(applied_file(settings), applied)


def _start(settings: Settings, desired: Mapping[str, Served], startup_s: float, progress: Progress) -> None:
    """Bring supervisord and its programs to the configuration and the desired state."""
    supervisor = Supervisor(settings)
    booting = not supervisor.running()
    if booting:
        # A server whose supervisord was killed would answer the wait below and then be replaced.
        left = [*leftovers.programs(settings), *leftovers.our_processes(settings)]
        ended = leftovers.end(left, grace_s=5)
        if ended:
            progress.say(f"ended programs without a supervisor: pids {', '.join(map(str, ended))}")
    optional = _optional(settings, supervisor, desired, progress)
    _write_settings(settings)
    supervisor_config.install_in_environment(settings, optional.programs)
    observers.write_files(optional.files)
    taken = Taken(settings, inputs(settings, optional.files))
    if booting:
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
    if supervisor.program("torchserve").alive:
        _load_changed(settings, desired, startup_s, progress)
    for program in supervisor.programs():
        if not program.alive:
            progress.say(f"starting {program.name}")
            supervisor.start(program.name)


def bring_up(settings: Settings, names: Iterable[str], progress: Progress, hardware: Hardware | None = None) -> Up:
    """Serve the desired models and those named, and return when each has answered a real request rightly.

    Raises:
        OpsError, ArchivesError: what keeps it from serving, with the next step.
    """
    started = time.monotonic()
    settings.run.mkdir(parents=True, exist_ok=True)
    with exclusive(settings.run / "up.lock", progress.say):
        hardware = hardware or detect()
        specs = wanted_specs(settings, names)
        supervisor_config.check_paths(settings)
        preflight(settings)
        prepared: dict[str, Prepared] = {
            name: prepare(spec, settings, hardware, progress) for name, spec in specs.items()
        }
        running = set(read_models(applied_file(settings))) if Supervisor(settings).running() else set()
        unfit = misfits([one for name, one in prepared.items() if name not in running], hardware)
        if unfit:
            raise OpsError("cannot start:\n" + "\n".join(f"  {problem}" for problem in unfit))
        desired = {name: one.served for name, one in prepared.items()}
        write_models(desired_file(settings), desired)
        startup_s = max(specs[name].startup_timeout_s for name in specs) + START_ALLOWANCE_S
        _start(settings, desired, startup_s, progress)
        expected = {name: Expected(one.reference, startup_s) for name, one in prepared.items()}
        probes = wait_until_serving(settings, expected, progress.say)
        prune(settings, desired.values())
    return Up(probes, time.monotonic() - started)
