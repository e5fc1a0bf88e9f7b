"""`embedkit doctor`: every finding, a line each, the quick ones first."""

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from archives.archive import read_manifest
from archives.catalogue import find, load_catalogue
from archives.errors import ArchivesError
from archives.fetch import find_snapshot
from archives.placement import Need, layout, misfits, need
from archives.snapshot import hash_file
from archives.store import archive_path
from env import checks, host_checks
from env.checks import Finding
from env.chooser import ChoiceError, choose, installed, load_pins
from env.door import door
from env.hardware import Hardware, detect, own_bytes
from env.ports import ports
from env.requirements import installed_versions
from ops.desired import (
    Served,
    changes_file,
    desired_file,
    previous_file,
    read_changes,
    read_models,
    rolled_back_file,
)
from ops.errors import OpsError
from ops.gateway.check import examine_gateway
from ops.observers import find_binary
from ops.preflight import addresses, needed_listeners, repairer
from ops.served import published
from ops.settings import ROOT, Settings
from ops.store_owners import examine_owners
from ops.supervisor.config import unfit_paths
from ops.supervisor.process import unanswering
from ops.torchserve import confine
from ops.torchserve.launcher import in_force
from ops.torchserve.leftovers import everything, our_processes


def environment(hardware: Hardware) -> Iterator[Finding]:
    """Python, packages, JDK and torch."""
    versions, repair = installed_versions(), repairer()
    try:
        here, wrong = installed(), ""
    except ChoiceError as error:
        here, wrong = choose(hardware.driver, None, load_pins()), str(error)
    again = repair(here.flavour)
    yield checks.python_version((sys.version_info.major, sys.version_info.minor), again)
    if wrong:
        yield Finding("lock", "fail", wrong, "unset TORCH")
    else:
        yield checks.entered_by(door(os.environ, Path(sys.prefix), ROOT), here)
        yield checks.lock_matches(here, versions, again)
        yield checks.unchanged_since_install(checks.locked_packages(here), again)
    yield checks.jdk(os.environ, again)
    yield checks.torch_build(hardware, checks.probe_torch(), here, repair)


def _secrets(settings: Settings) -> list[Path]:
    """The files that may hold a token or key: the hub's, where huggingface_hub keeps it, and the settings' own."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_TOKEN_PATH", home / "token"))
    return [hub, *([ROOT / "embedkit.toml"] if settings.alert_webhook else [])]


def supervision(settings: Settings) -> Iterator[Finding]:
    """A supervisord that lives and cannot be spoken to."""
    if silent := unanswering(settings):
        yield Finding("supervisord", "fail", str(silent), "embedkit up")


def paths(settings: Settings) -> Finding:
    """Whether every program can take every path."""
    name, why = next(unfit_paths(settings), ("", ""))
    if not name:
        return Finding("paths", "ok", "every program can take them")
    home = Path.home() / "embedkit"
    fix = f"export EMBEDKIT_{name.upper()}={shlex.quote(str(home / name))} && make up"
    if name == "checkout":
        moved = shlex.quote(str(home))
        fix = f"mv {shlex.quote(str(ROOT))} {moved} && make -C {moved} repair"
    return Finding("paths", "fail", f"{name}: {why}", fix)


def machine(settings: Settings, hardware: Hardware, models: Iterable[int]) -> Iterator[Finding]:
    """Paths, addresses, ports, disks, memory, limits, kernel and secrets; the memory of the pids `models` counts as
    free."""
    yield paths(settings)
    yield from addresses(settings)
    ours = {one.pid for one in everything(settings)}
    yield ports(needed_listeners(settings), ours, settings.ports.values())
    yield host_checks.disk({"var": settings.var, "store": settings.store})
    yield host_checks.memory(hardware.memory_bytes, sum(map(own_bytes, models)))
    yield host_checks.open_files()
    yield host_checks.confinement(confine.version())
    yield host_checks.secrets(_secrets(settings))


def state(settings: Settings) -> Iterator[Finding]:
    """Files below var/state without which `up` would stop."""
    files = [desired_file(settings), previous_file(settings), rolled_back_file(settings)]
    reads = {file: partial(read_models, file) for file in files} | {
        changes_file(settings): partial(read_changes, settings)
    }
    for file, read in reads.items():
        try:
            read()
        except OpsError as error:
            yield Finding("desired state", "fail", str(error), f"rm {shlex.quote(str(file))}")


def _desired(settings: Settings) -> Mapping[str, Served]:
    try:
        return read_models(desired_file(settings))
    except OpsError:
        return {}  # state has said it


def _restore(file: Path) -> str:
    """The command that brings a models.toml back that can be read, and keeps the other one."""
    own = ROOT / "archives" / "models.toml"
    if file != own:
        return f"cp --backup=numbered {shlex.quote(str(own))} {shlex.quote(str(file))}"
    if (ROOT / ".git").exists():
        return f"git -C {shlex.quote(str(ROOT))} stash push -- archives/models.toml"
    return f"${{EDITOR:-vi}} {shlex.quote(str(file))}"


def _smaller(needs: Iterable[Need], hardware: Hardware, settings: Settings, desired: Mapping[str, Served]) -> str:
    """The command after which those models fit: as many workers of each as there is room for."""
    write = f"{shlex.quote(sys.executable)} -m ops.tune.write {shlex.quote(str(settings.models_file))}"
    commands, fitting = [], list[Need]()
    for one in needs:
        fewer = (replace(one, workers=workers) for workers in range(one.workers, 0, -1))
        fits = next((less for less in fewer if not misfits([*fitting, less], hardware)), None)
        if fits is None and one.on_gpu and not hardware.gpus:
            commands.append(f"{write} {one.model} device=auto")
        elif fits is None:
            commands.append(f"embedkit down {one.model}" if one.model in desired else "ps aux --sort=-rss | head")
        else:
            fitting.append(fits)
            if fits != one:
                commands.append(f"{write} {one.model} workers={fits.workers}")
    return " && ".join(commands)


def placement(settings: Settings, desired: Mapping[str, Served], hardware: Hardware) -> Finding:
    """Whether what is served, or would be by default, fits this hardware, on which none of it counts as running."""
    try:
        catalogue = load_catalogue(settings.models_file)
    except ArchivesError as error:
        return Finding("models", "fail", str(error), _restore(settings.models_file))
    needs, unseen = [], []
    for name in desired or [settings.default_model]:
        try:
            spec = find(catalogue, name)
            snapshot = find_snapshot(spec, settings.store)
        except ArchivesError as error:
            other = next(one for one in (*catalogue, "minilm") if one != settings.default_model)
            fix = f"embedkit down {name}" if name in desired else f"EMBEDKIT_DEFAULT_MODEL={other} make up"
            return Finding("placement", "fail", str(error), fix)
        if snapshot is None:
            unseen.append(name)
        else:
            needs.append(need(spec, layout(spec, hardware), snapshot.parameters))
    problems = misfits(needs, hardware)
    if problems:
        return Finding("placement", "fail", "; ".join(problems), _smaller(needs, hardware, settings, desired))
    if unseen:
        return Finding("placement", "note", f"not fetched yet, so not judged: {', '.join(unseen)}")
    return Finding("placement", "ok", "the served models fit this machine")


def archives(settings: Settings, desired: Mapping[str, Served]) -> Iterator[Finding]:
    """A finding an archive, and one on the versions that its model was trained with."""
    if not desired:
        yield Finding("archives", "note", f"nothing served yet; `make up` will serve {settings.default_model}")
    versions = installed_versions()
    for name, one in desired.items():
        path, verification = published(settings, one)
        # `pack` leaves an archive that it has packed before alone, and the two may be one file
        old = shlex.join(["rm", "-f", str(path), str(archive_path(settings.store, name, one.version))])
        try:
            trained = read_manifest(path)["trained_with"]
        except ArchivesError as error:
            yield Finding(f"archive {name}", "fail", str(error), f"{old} && embedkit up {name}")
            continue
        if hash_file(path).sha256 != one.sha256:
            detail = f"{path.name} is not the file that was verified when it was put into service"
            yield Finding(f"archive {name}", "fail", detail, f"{old} && embedkit up {name}")
        elif verification is None:  # the archive itself is good, and may be the only one
            detail = f"what was seen of {path.name} when it was verified is gone"
            yield Finding(f"archive {name}", "fail", detail, f"embedkit up {name}")
        else:
            yield Finding(f"archive {name}", "ok", f"{path.name}, {verification.fingerprint}")
        yield checks.trained_with(name, trained, versions)


def examine(configured: Settings) -> Iterator[Finding]:
    """Every finding, for what runs below the same var/, or would with these settings."""
    settings = configured
    try:
        settings = in_force(configured)
    except OpsError as error:
        yield Finding("settings", "fail", str(error), "embedkit up")
    models = {one.pid for one in our_processes(settings)}
    hardware = detect(models)  # what they hold is free again for those that take their place
    yield from supervision(settings)
    yield host_checks.user(os.getuid())
    yield from environment(hardware)
    yield from machine(settings, hardware, models)
    yield examine_gateway(settings, find_binary("gateway"))
    yield from state(settings)
    desired = _desired(settings)
    yield placement(settings, desired, hardware)
    yield from archives(settings, desired)
    yield from examine_owners(settings)
