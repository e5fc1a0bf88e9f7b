"""The archives that TorchServe loads: verified ones, under names made of their content.

`pack` replaces the archive of a model's version; what is in service must not change with it, or the next restart would
serve something that nobody verified. So a verified archive is linked into store/served/, beside a copy of what was seen
of it, and the desired state names that file.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from archives.pack import PackedArchive
from archives.store import flush, fsync_folder, verification_path, write_whole
from archives.verify import Verification, read_verification
from ops.desired import Served
from ops.exclusive import at_once
from ops.settings import Settings
from ops.store_owners import claim, identity, releasing


def preparing_lock(settings: Settings) -> Path:
    """What all hold that have archives in store/served which the desired state does not name yet."""
    return settings.run / "preparing.lock"


def publish(settings: Settings, model: str, version: str, packed: PackedArchive) -> Served:
    """Put a verified archive among those that can be served; returns how the desired state names it."""
    name = f"{model}-{version}-{packed.sha256[:12]}.mar"
    target = settings.served / name
    claim(settings, [name])
    if not target.exists() or not target.samefile(packed.path):
        with appearing(settings, name) as beside:
            try:
                beside.hardlink_to(packed.path)
            except OSError:  # a file system without links
                shutil.copy2(packed.path, beside)  # with its time, which clients are told
    write_whole(verification_path(target), verification_path(packed.path).read_bytes())
    return Served(model, version, name, packed.sha256)


@contextlib.contextmanager
def appearing(settings: Settings, name: str) -> Iterator[Path]:
    """Where to write a file that then stands in store/served under this name, which is this deployment's by then."""
    claim(settings, [name])
    settings.served.mkdir(parents=True, exist_ok=True)
    beside = settings.served / f".{name}.{identity(settings)}"
    beside.unlink(missing_ok=True)
    try:
        yield beside
        flush(beside)
        beside.replace(settings.served / name)
        fsync_folder(settings.served)
    finally:
        beside.unlink(missing_ok=True)


def published(settings: Settings, one: Served) -> tuple[Path, Verification | None]:
    """The file of a served model, and what was seen when it was verified; None where that is gone."""
    path = settings.served / one.archive
    return path, read_verification(path)


def prune(settings: Settings) -> None:
    """Remove the archives of this deployment that are neither served nor gone back to, and what a change of it has left
    beside them; use it under the deployment's lock. While another prepares, all is left to the next time."""
    with at_once(preparing_lock(settings)) as alone:
        if not alone:
            return
        with releasing(settings) as unneeded:
            for name in unneeded:
                verification_path(settings.served / name).unlink(missing_ok=True)
                (settings.served / name).unlink(missing_ok=True)
        for left in settings.served.glob(f".*.{identity(settings)}"):
            left.unlink(missing_ok=True)
