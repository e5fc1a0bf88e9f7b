"""A copy of this checkout as git would clone it, changes included, for tests that set one up from nothing."""

import shutil
import subprocess
from pathlib import Path

from ops.settings import ROOT


def copy_checkout(target: Path) -> None:
    """Copy every file that git tracks or would track, and make the copy a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=target, check=True)
