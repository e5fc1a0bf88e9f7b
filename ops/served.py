"""The archives that TorchServe loads: verified ones, under names made of their content.

`pack` replaces the archive of a model's version; what is in service must not change with it, or the next restart would
serve something that nobody verified. So a verified archive is linked into store/served/, beside a copy of what was seen
of it, and the desired state names that file.
"""

import os
import shutil
from pathlib import Path

from archives.pack import PackedArchive
from archives.store import flush, verification_path, write_whole
from archives.verify import Verification, read_verification
from ops.desired import Served, desired_file, previous_file, read_models
from ops.settings import Settings


def publish(settings: Settings, model: str, version: str, packed: PackedArchive) -> Served:
    """Put a verified archive among those that can be served; returns how the desired state names it."""
    name = f"{model}-{version}-{packed.sha256[:12]}.mar"
    target = settings.served / name
    settings.served.mkdir(parents=True, exist_ok=True)
    if not target.exists() or not target.samefile(packed.path):
        beside = target.with_name(f".{name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        try:
            beside.hardlink_to(packed.path)
        except OSError:  # a file system without links
            shutil.copyfile(packed.path, beside)
            flush(beside)
        beside.replace(target)
    write_whole(verification_path(target), verification_path(packed.path).read_bytes())
    return Served(model, version, name, packed.sha256)


def published(settings: Settings, one: Served) -> tuple[Path, Verification | None]:
    """The file of a served model, and what was seen when it was verified; None where that is gone."""
    path = settings.served / one.archive
    return path, read_verification(path)


def prune(settings: Settings) -> None:
    """Remove the archives that are neither served nor gone back to, and what a change has left beside them."""
    states = (desired_file(settings), previous_file(settings))
    names = {one.archive for state in states for one in read_models(state).values()}
    keep = names | {verification_path(settings.served / name).name for name in names}
    for path in settings.served.glob("*"):
        if path.name not in keep:
            path.unlink(missing_ok=True)
