"""What it ran on, and what else ran there."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ops.bench.contention import Contention
from ops.bench.machine import commit, cpu_model
from ops.settings import Settings

CPUINFO = """processor\t: 0
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu avx2 avx512_bf16

processor\t: 1
model name\t: another
"""


def test_a_processor_is_named_with_what_matters_for_speed() -> None:
    """Family, model and wide instructions, as cloud machines' names are generic; a bare one where there is no file."""
    assert cpu_model(CPUINFO) == "AMD EPYC (family 25 model 17), avx2 avx512_bf16"
    assert cpu_model("") != ""


def test_a_commit_says_whether_files_differ_from_it(tmp_path: Path) -> None:
    """ "+" behind it where they do; nothing outside of a checkout."""
    assert commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    head = commit(tmp_path)
    assert len(head) == 40
    (tmp_path / "file").touch()
    assert commit(tmp_path) == f"{head}+"


def test_ones_own_work_is_not_others(tmp_path: Path) -> None:
    """A child of this process that computes is ours; the share is one of all cores."""
    spin = [sys.executable, "-c", "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"]
    contention = Contention(Settings(var=tmp_path), 1000)
    ours = subprocess.Popen(spin)
    try:
        with contention.watch() as seen:
            threading.Event().wait(0.5)
    finally:
        ours.kill()
        ours.wait()
    # A thousand cores: whatever real others take of them is little, and it is never negative.
    assert 0 <= seen.others < 0.2


def test_others_are_seen(tmp_path: Path) -> None:
    """A process that is nobody's child here counts."""
    spin = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    quiet = "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    start = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {spin!r}], {quiet}).pid)"
    # Its parent ends at once, so that it is adopted by somebody else.
    started = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True, timeout=30)
    try:
        with Contention(Settings(var=tmp_path), 1).watch() as seen:
            time.sleep(1.0)
    finally:
        os.kill(int(started.stdout), signal.SIGKILL)
    assert seen.others > 0.1
