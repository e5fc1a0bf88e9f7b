"""Which deployment needs which archive of store/served: several may share a store, each with a var/ of its own.

store/owners/<id>.json    a deployment's var/, its host, and the archives it needs or has been putting there
store/owners/lock         held while one of them is read or changed

A deployment claims an archive before it lies there. What it needs no more is removed once no other has it; what nobody
ever claimed is nobody's to remove. The id is random and kept in var/state: two containers have one path, and may have
one host name.
"""

import contextlib
import platform
import shlex
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from archives.store import held
from env.checks import Finding
from ops.desired import needed
from ops.errors import OpsError
from ops.settings import Settings
from ops.state_files import read_state, write_state
from ops.torchserve.leftovers import container


@dataclass(frozen=True)
class Owner:
    """A deployment as it last wrote its record: its var/, its host's name, its container, its files in store/served."""

    file: Path
    var: str
    host: str
    container: str
    archives: frozenset[str]

    @property
    def id(self) -> str:
        return self.file.stem


def identity(settings: Settings) -> str:
    """This deployment's id, made when it is first asked for; a copied var/ is another deployment.

    Raises:
        OSError: store or var/ cannot be written.
    """
    file = settings.state / "deployment.json"
    if known := _known(file, str(settings.var)):
        return known
    with _locked(settings):
        if not (known := _known(file, str(settings.var))):
            known = uuid.uuid4().hex
            write_state(file, {"id": known, "var": str(settings.var)})
    return known


def claim(settings: Settings, archives: Iterable[str] = ()) -> None:
    """Keep these, and what a restart or a rollback needs, from being removed by other deployments.

    Raises:
        OpsError: the desired state is damaged; OSError: store or var/ cannot be written.
    """
    file, wanted = _file(settings), needed(settings) | set(archives)
    if wanted <= _claimed(file):  # nobody else writes this record, and a start may find the store read-only
        return
    with _locked(settings):
        _write(file, settings, _claimed(file) | wanted)


@contextlib.contextmanager
def releasing(settings: Settings) -> Iterator[frozenset[str]]:
    """What this deployment has claimed, needs no more, and no other has claimed: to be removed within the block.
    Nothing where another's record cannot be read, which the doctor tells.

    Raises:
        as claim.
    """
    file, kept = _file(settings), needed(settings)
    with _locked(settings):
        try:
            others = {name for one in owners(settings) if one.file != file for name in one.archives}
        except OpsError:
            yield frozenset()
            return
        yield frozenset(_claimed(file) - kept - others)
        _write(file, settings, kept)


def owners(settings: Settings) -> list[Owner]:
    """Every deployment with a record in this store.

    Raises:
        OpsError: a record is damaged.
    """
    return [_read(file) for file in sorted(_folder(settings).glob("*.json"))]


def examine_owners(settings: Settings) -> Iterator[Finding]:
    """What the doctor says of other deployments that share the store."""
    try:
        found = owners(settings)
    except OpsError as error:
        yield Finding("store", "note", f"{error}; until then nothing is removed from {settings.served}")
        return
    mine = _known(settings.state / "deployment.json", str(settings.var))
    for one in found:
        if one.id == mine:
            continue
        detail = f"{one.var} on {one.host} shares {settings.store}"
        elsewhere = (one.host, one.container) != (platform.node(), container())
        if elsewhere or _known(Path(one.var) / "state" / "deployment.json", one.var) == one.id:
            yield Finding("store", "ok", detail)
            continue
        kept = {name for other in found if other != one for name in other.archives}
        files = [one.file, *(settings.served / name for name in sorted(one.archives - kept))]
        rm = shlex.join(["rm", "-f", *map(str, files)])
        yield Finding("store", "note", f"{one.var} on {one.host} is gone, and its archives are kept", rm)


def _folder(settings: Settings) -> Path:
    return settings.store / "owners"


def _file(settings: Settings) -> Path:
    return _folder(settings) / f"{identity(settings)}.json"


def _locked(settings: Settings) -> contextlib.AbstractContextManager[None]:
    return held(_folder(settings) / "lock")


def _known(file: Path, var: str) -> str:
    """The id that a var/ was given; empty where it has none of its own."""
    try:
        about = read_state(file)
        return str(about["id"]) if about["var"] == var else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _read(file: Path) -> Owner:
    try:
        about = read_state(file)
        archives = frozenset(map(str, about["archives"]))
        return Owner(file, str(about["var"]), str(about["host"]), str(about.get("container", "")), archives)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OpsError(
            f"{file} is damaged ({error}): `embedkit up` in its deployment writes it anew; without one, remove it"
        ) from error


def _claimed(file: Path) -> frozenset[str]:
    try:
        return _read(file).archives
    except OpsError:
        return frozenset()


def _write(file: Path, settings: Settings, archives: Iterable[str]) -> None:
    about = {"var": str(settings.var), "host": platform.node(), "container": container()}
    write_state(file, {**about, "archives": sorted(archives)})
