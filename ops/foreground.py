"""`embedkit run`: prepare, then become the service: nothing is left between it and whoever started this process.

Signals reach the service itself, and the exit status is the service's own.
"""

import os
from collections.abc import Iterable
from typing import NoReturn

from archives.catalogue import ModelSpec, find, load_catalogue
from archives.progress import Progress
from env.hardware import detect
from ops.desired import Served, changes_file, commit, desired_file, read_models, write_models
from ops.errors import OpsError
from ops.exclusive import exclusive, lock_file
from ops.preparing import prepared
from ops.private import keep_private
from ops.served import prune
from ops.settings import Settings
from ops.supervisor import config as supervisor_config
from ops.supervisor.control import Supervisor, environment
from ops.supervisor.process import end_unsupervised
from ops.up import make_ready, settled, wanted_specs, write_configuration, write_settings


def exact_specs(settings: Settings, names: Iterable[str]) -> dict[str, ModelSpec]:
    """The models named and no others; without a name those served last, else the default one.

    Raises:
        CatalogueError: models.toml is wrong or does not have a name.
        OpsError: a model that was served last is no longer in it.
    """
    chosen = list(names)
    if not chosen:
        return wanted_specs(settings, ())
    catalogue = load_catalogue(settings.models_file)
    return {name: find(catalogue, name) for name in chosen}


def _commands(
    settings: Settings, models: Iterable[Served], progress: Progress, *, server: bool
) -> tuple[list[str], dict[str, str]]:
    """What this process becomes, with its environment."""
    if server:
        write_settings(settings)
        return [*supervisor_config.torchserve(settings).command, "--console"], environment()
    supervisor = Supervisor(settings)
    taken = write_configuration(settings, supervisor, models, progress)
    taken.mark(taken.stale())
    command, environ = supervisor.started_as()
    return [*command, "--nodaemon"], environ


def _clear(settings: Settings, progress: Progress) -> None:
    if Supervisor(settings).running():
        raise OpsError(f"the service of {settings.var} runs already: `embedkit down` stops it")
    end_unsupervised(settings, progress.say)


def run_service(settings: Settings, names: Iterable[str], progress: Progress, *, server: bool) -> NoReturn:
    """Serve these models in the foreground: supervisord with all programs, or with `server` TorchServe alone.

    Raises:
        OpsError, ArchivesError: what keeps it from serving, with the next step.
    """
    supervisor_config.check_paths(settings)
    keep_private(settings)
    with exclusive(lock_file(settings), progress.say):
        _clear(settings, progress)
    hardware, before = detect(), read_models(desired_file(settings))
    specs = exact_specs(settings, names)
    with prepared(settings, lambda: make_ready(settings, specs, progress, hardware), progress.say) as ready:
        _clear(settings, progress)
        goal = settled(settings, ready, before, progress, detect())  # minutes later, other memory is free
        for one in goal.values():
            commit(settings, one)  # remembers what each was served from before
        write_models(desired_file(settings), goal)
        prune(settings)
        changes_file(settings).unlink(missing_ok=True)
        command, environ = _commands(settings, goal.values(), progress, server=server)
    progress.say(f"becoming {'TorchServe' if server else 'supervisord'}; serving {', '.join(goal)}")
    os.chdir(settings.run)
    os.execve(command[0], command, environ)  # noqa: S606 - no shell is wanted
