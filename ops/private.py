"""Who else on this machine may read and write what the kit writes: nobody may write, and var/ is for its user alone."""

import os
import stat
from pathlib import Path

from ops.settings import Settings


def refuse_writers() -> None:
    """Nothing that this process or its children make from now on can be written by group or others, umask or not."""
    os.umask(os.umask(0o077) | 0o022)


def keep_private(settings: Settings) -> None:
    """Make var/ for this user alone, and take writing to the store from everybody else: archives are code.

    A group that was given the reading of var/ (chmod g+rx) keeps it. A volume of another user's, as Kubernetes mounts
    one for a group (`fsGroup`), is left as it is. Raises OSError where any other folder is another user's.
    """
    _limit(settings.var, new=0o700, most=0o750)
    _limit(settings.store, new=0o755, most=0o755)


def _limit(folder: Path, *, new: int, most: int) -> None:
    folder.mkdir(mode=new, parents=True, exist_ok=True)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & ~most:
        try:
            folder.chmod(mode & most)
        except PermissionError:
            if not folder.is_mount():
                raise
