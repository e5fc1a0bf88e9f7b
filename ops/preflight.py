"""What has to be right before anything is started, and the doctor's whole list."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from env import checks
from env.checks import Finding
from env.chooser import Choice, ChoiceError, installed
from env.door import door
from env.hardware import Hardware, detect
from env.requirements import installed_versions
from ops.errors import OpsError
from ops.gateway.check import examine_gateway
from ops.observers import find_binary
from ops.settings import ROOT, Settings
from ops.supervisor.control import Supervisor
from ops.supervisor.process import unanswering
from ops.torchserve import confine
from ops.torchserve.launcher import in_force
from ops.torchserve.leftovers import everything


def kit_runs(settings: Settings) -> bool:
    """Whether anything of this kit is alive: supervisord, or what has lost it; our ports are then our own."""
    return Supervisor(settings).running() or bool(everything(settings))


def new_ports(settings: Settings) -> dict[str, int]:
    """The ports that have to be free: all of them, or, where the kit runs, those it does not listen on yet."""
    if not kit_runs(settings):
        return settings.needed_ports
    try:
        held = in_force(settings).ports
    except OpsError:
        return {}
    return {name: port for name, port in settings.needed_ports.items() if port not in held.values()}


def preflight(settings: Settings) -> None:
    """Refuse a start that could not succeed.

    Raises:
        OpsError: names every cause, each with the command that mends it.
    """
    findings = [
        checks.jdk(os.environ),
        checks.host(settings.host),
        checks.ports(new_ports(settings), "127.0.0.1", ours=False),
        checks.disk((settings.var, settings.store)),
    ]
    problems = [f"{one.check}: {one.detail} (try: {one.fix})" for one in findings if one.status == "fail"]
    if problems:
        raise OpsError("cannot start:\n" + "\n".join(f"  {problem}" for problem in problems))


def _installed() -> Choice | Finding:
    try:
        return installed()
    except ChoiceError as error:
        return Finding("lock", "fail", str(error), "unset TORCH")


def _secrets(settings: Settings) -> list[Path]:
    """The files that may hold a token or key: the hub's, where huggingface_hub keeps it, and the settings' own."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_TOKEN_PATH", home / "token"))
    return [hub, *([ROOT / "embedkit.toml"] if settings.alert_webhook else [])]


def examine(
    settings: Settings,
    *,
    trained: Mapping[str, Mapping[str, str]],
    misfits: Callable[[Hardware], list[str]],
    archives: Callable[[], Iterable[Finding]],
) -> Iterator[Finding]:
    """Every check of `embedkit doctor`, one at a time, the quick ones first.

    Args:
        trained: served model → the versions its folder says it was trained with.
        misfits: what of the served models will not fit this hardware.
        archives: findings about the served models' archives.
    """
    hardware = detect()
    versions_here = installed_versions()
    running = kit_runs(settings)
    if silent := unanswering(settings):
        yield Finding("supervisord", "fail", str(silent), "embedkit up")
    yield checks.user(os.getuid())
    yield checks.python_version((sys.version_info.major, sys.version_info.minor))
    choice = _installed()
    if isinstance(choice, Finding):
        yield choice
    else:
        yield checks.entered_by(door(os.environ, Path(sys.prefix), ROOT), choice)
        yield checks.lock_matches(choice, versions_here)
        yield checks.unchanged_since_install(checks.locked_packages(choice))
    yield checks.jdk(os.environ)
    yield checks.torch_build(hardware, checks.probe_torch())
    yield checks.host(settings.host)
    yield checks.ports(settings.needed_ports, "127.0.0.1", ours=running)
    yield checks.disk((settings.var, settings.store))
    yield checks.memory(hardware.memory_bytes)
    yield checks.open_files()
    yield checks.confinement(confine.version())
    yield checks.secrets(_secrets(settings))
    yield examine_gateway(settings, find_binary("gateway"))
    if not running:  # what runs has taken its memory already
        unfit = misfits(hardware)
        if unfit:
            yield Finding("placement", "fail", "; ".join(unfit), "nano archives/models.toml")
        else:
            yield Finding("placement", "ok", "the served models fit this machine")
    yield from archives()
    for model, versions in trained.items():
        yield checks.trained_with(model, versions, versions_here)
