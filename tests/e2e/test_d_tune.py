"""`embedkit tune`, on a private TorchServe beside the one that serves."""

import os
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from ops.settings import Settings
from ops.torchserve import leftovers
from tests import patience
from tests.e2e.stack import BIN, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# A start that can be beaten.
SLOW = "\n# how it is served\nworkers = 1  # for now\nthreads = 1\nbatch_size = 4\n"


@pytest.fixture
def apart(stack: Stack, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment for a var/ and a models.toml of its own; what was converted for minilm is the deployment's."""
    short = Path(f"/tmp/ek-tune-{os.getpid()}")  # unix sockets lie below it
    text = stack.settings.models_file.read_text()
    version = 'handler = "sentence"\nversion = "1.0"\n'
    (tmp_path / "models.toml").write_text(text.replace(version, version + SLOW, 1))
    yield stack.environ | {"EMBEDKIT_VAR": str(short), "EMBEDKIT_MODELS_FILE": str(tmp_path / "models.toml")}
    stack.run("rm", "-r", str(short))


def left(environ: dict[str, str]) -> list[int]:
    private = Settings(var=Path(environ["EMBEDKIT_VAR"]) / "tuning")
    return [one.pid for one in leftovers.our_processes(private)]


def test_it_measures_candidates_and_writes_the_choice(stack: Stack, apart: dict[str, str]) -> None:
    """Candidates are measured with right vectors, the choice is the fastest that meets the aim, and --write changes
    the keys of the choice alone; the service that runs keeps its workers, and nothing else is left running.
    """
    models, before = Path(apart["EMBEDKIT_MODELS_FILE"]), stack.worker_pids()
    text = models.read_text()
    command = ["tune", "minilm", "--p99", "3s", "--limit", "120s", "--candidates", "2", "--runs", "1"]
    command += ["--profile", "short", "--write", "--json"]
    done = subprocess.run([BIN / "embedkit", *command], env=apart, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = orjson.loads(done.stdout)
    measured = [row for row in found["rows"] if row["texts_per_s"] is not None]
    assert (len(measured), found["ended"]) == (2, "candidates")
    assert all(run["checked"] >= 10 and run["min_cosine"] >= 0.999 for row in measured for run in row["runs"])
    best = max(measured, key=lambda row: row["texts_per_s"])
    assert (best["candidate"], best["chosen"], best["frontier"]) == (found["chosen"], True, True)
    # On a machine with nothing else to do a second thread wins; whichever did, the file says that and no more.
    assert found["written"] == (found["chosen"] != found["current"])
    wanted = tomllib.loads(text)
    wanted["minilm"] |= found["changes"]
    assert tomllib.loads(models.read_text()) == wanted
    assert models.read_text() == text.replace("threads = 1\n", f"threads = {found['chosen']['threads']}\n")
    page = next(Path(apart["EMBEDKIT_VAR"]).glob("tune/*/report.html"))
    assert found["headline"] in page.read_text()
    assert left(apart) == []
    assert stack.worker_pids() == before


def test_an_interruption_leaves_nothing_running(apart: dict[str, str]) -> None:
    """SIGTERM while a candidate's workers load: it ends within seconds, as on Ctrl-C, server and workers with it.
    What a killed run has left in its folder is no obstacle.
    """
    served = Path(apart["EMBEDKIT_VAR"]) / "tuning" / "store" / "served"
    served.mkdir(parents=True)
    (served / "engines").symlink_to("gone")
    tuning = subprocess.Popen(
        [BIN / "embedkit", "tune", "minilm", "--p99", "3s"], env=apart, stderr=subprocess.PIPE, text=True
    )
    assert tuning.stderr is not None
    while "candidate 1" not in tuning.stderr.readline():
        assert tuning.poll() is None
    deadline = time.monotonic() + patience.scaled(20)
    while len(left(apart)) < 2:  # the JVM and a worker
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tuning.send_signal(signal.SIGTERM)
    said = tuning.communicate(timeout=20)[1]
    assert (tuning.returncode, left(apart)) == (130, [])
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not (Path(apart["EMBEDKIT_VAR"]) / "tuning").exists()
