"""A whole bundle, from this machine to one without a network: the README's commands in a namespace without a route."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from archives.store import archive_path, verification_path
from env.chooser import installed
from env.jdk import packaged_java
from ops.settings import ROOT
from tests.e2e.stack import OBSERVERS_OFF, Stack

pytestmark = [pytest.mark.slow, pytest.mark.needs("namespaces", "ip"), pytest.mark.timeout(900)]

# In a namespace of its own even the loopback device is down, and nothing else is there.
ALONE = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]), "bash", "-euc"]
SCRIPT = """\
ip link set lo up
test -z "$(ip route)"
tar xf "$bundle" install.py
"$python" install.py "$bundle" there
cd there
trap 'make down >down.txt 2>&1' EXIT
make up PYTHON="$python" >up.txt 2>&1 || { cat up.txt; exit 1; }
.venv/bin/embedkit doctor --json >doctor.json || true
.venv/bin/embedkit embed --json "$text" >embedded.json
.venv/bin/embedkit bundle install "$bundle" ../again >../again.txt
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ek-"))  # short: unix sockets lie below it
    yield made
    shutil.rmtree(made)


def test_a_machine_without_a_network_serves(folder: Path) -> None:
    """One file, tar, make and Python 3.11: the service comes up, and a text has the vector that it had here."""
    here = Stack(folder / "here")
    shutil.copy(ROOT / "archives" / "models.toml", here.settings.models_file)
    here.embedkit("pack", "minilm")
    here.embedkit("verify", "minilm")
    verified = verification_path(archive_path(here.settings.store, "minilm", "1.0"))
    seen = orjson.loads(verified.read_bytes())
    text, expected = seen["texts"][0], np.asarray(seen["vectors"][0])

    java = packaged_java()
    assert java is not None
    bundle = folder / "x.tar"
    what = ("--torch", installed().flavour, "--model", "minilm", "--jdk", str(java.parent.parent))
    made = orjson.loads(here.embedkit("bundle", *what, "--output", str(bundle), "--json").stdout)
    assert made["bytes"] == bundle.stat().st_size
    subprocess.run(["sha256sum", "--check", f"{bundle.name}.sha256"], cwd=folder, check=True)
    assert sorted(path.name for path in folder.iterdir()) == ["here", "x.tar", "x.tar.sha256"]

    off = {f"EMBEDKIT_{name.upper()}": value for name, value in OBSERVERS_OFF.items()}
    environ = {"bundle": str(bundle), "python": f"{sys.base_prefix}/bin/python3.11", "text": text, "HOME": str(folder)}
    environ |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TORCH": installed().flavour, "PIP_CONFIG_FILE": os.devnull}
    started = time.monotonic()
    done = subprocess.run([*ALONE, SCRIPT], cwd=folder, env=environ | off, capture_output=True, text=True, check=False)
    there = folder / "there"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    seconds = time.monotonic() - started
    print(f"{bundle.stat().st_size >> 20} MB, written in {made['seconds']:.0f} s, there and back in {seconds:.0f} s")

    answer = orjson.loads((there / "embedded.json").read_bytes())["data"][0]["embedding"]
    assert float(np.dot(answer, expected)) > 0.999  # of sentence-transformers in float32; here bfloat16 may be served
    assert "stopped" in (there / "down.txt").read_text()
    findings = {one["check"]: one for one in orjson.loads((there / "doctor.json").read_bytes())["findings"]}
    assert {name for name, one in findings.items() if one["status"] == "fail"} == set()
    assert findings["door"]["detail"].startswith("bundle: ")
    assert "from the bundle" in findings["jdk"]["detail"]
    up = (there / "up.txt").read_text()
    assert "torch, from the bundle" in up
    assert "verifying the archive" not in up  # it came verified
    again = {str(path.relative_to(folder / "again")) for path in (folder / "again").rglob("*")}
    assert {"Makefile", "env/wheels", "env/jdk/bin/java", "archives/store/minilm-1.0.mar"} <= again
