"""The lock between the commands that change what runs."""

import subprocess
import sys
from pathlib import Path

from ops.exclusive import at_once, exclusive, holder

HOLD = """
import sys
from pathlib import Path
from ops.exclusive import exclusive
sys.argv = ["/somewhere/embedkit", "deploy", "minilm"]
with exclusive(Path(@), print):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_the_second_names_the_first_and_waits(tmp_path: Path) -> None:
    """Command and pid; a killed holder holds nothing, and its name is not told any more."""
    lock, said = tmp_path / "lock", list[str]()
    script = HOLD.replace("@", repr(str(lock)))
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "holds\n"
        assert holder(lock) == f"embedkit deploy minilm (pid {first.pid})"
        with at_once(lock) as alone:
            assert not alone

        def say(line: str) -> None:
            said.append(line)
            first.kill()

        with exclusive(lock, say):
            assert said == [f"embedkit deploy minilm (pid {first.pid}) is at work here; waiting for it"]
    assert holder(lock) == ""
    with at_once(lock) as alone:
        assert alone
