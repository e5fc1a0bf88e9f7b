"""What has to be right before anything is started."""

import os
import sys
from pathlib import Path

from env import checks, host_checks
from env.checks import Finding, Repair, repair_by
from env.chooser import ChoiceError, installed
from env.door import door
from env.ports import ports
from ops.errors import OpsError
from ops.settings import ROOT, Settings
from ops.supervisor.control import Supervisor
from ops.torchserve.leftovers import everything


def kit_runs(settings: Settings) -> bool:
    """Whether anything of this kit is alive: supervisord, or what has lost it."""
    return Supervisor(settings).running() or bool(everything(settings))


def repairer() -> Repair:
    """How the environment that runs this is built anew."""
    prefix = Path(sys.prefix)
    return repair_by(door(os.environ, prefix, ROOT), prefix)


def needed_listeners(settings: Settings) -> dict[str, tuple[str, int]]:
    """Listener → the address and port without which `up` cannot succeed."""
    public = {"inference": settings.host, "gateway": settings.gateway_host}
    return {name: (public.get(name, "127.0.0.1"), port) for name, port in settings.needed_ports.items()}


def addresses(settings: Settings) -> list[Finding]:
    """A finding an address that is listened on."""
    found = [host_checks.host(settings.host)]
    return found if settings.gateway == "off" else [*found, host_checks.host(settings.gateway_host, "gateway_host")]


def preflight(settings: Settings) -> None:
    """Refuse a start that could not succeed.

    Raises:
        OpsError: names every cause, each with the command that mends it.
    """
    ours = {one.pid for one in everything(settings)}
    try:
        flavour = installed().flavour
    except ChoiceError:  # the doctor's to say: what runs has a lock
        flavour = "cpu"
    findings = [
        checks.jdk(os.environ, repairer()(flavour)),
        *addresses(settings),
        ports(needed_listeners(settings), ours, settings.ports.values()),
        host_checks.disk({"var": settings.var, "store": settings.store}),
    ]
    problems = [f"{one.check}: {one.detail} (try: {one.fix})" for one in findings if one.status == "fail"]
    if problems:
        raise OpsError("cannot start:\n" + "\n".join(f"  {problem}" for problem in problems))
