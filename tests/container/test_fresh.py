"""A fresh machine: a Debian with what README asks for and no more, an ordinary user, a clone, README's two commands."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import requests
from sentence_transformers import SentenceTransformer

from env.ports import port_is_free
from ops.probe import MIN_COSINE
from ops.settings import ROOT
from tests.container.debian import certificates, demand, make_tree, run, settings_elsewhere
from tests.container.isolated import Isolated
from tests.e2e.stack import free_ports
from tests.model_folders import minilm_folder

pytestmark = [pytest.mark.fresh, pytest.mark.timeout(1800)]

# What "The first minute" says is needed, as Debian calls it, and what a clone over HTTPS takes.
NEEDED = ("python3.11", "python3.11-venv", "make", "git", "ca-certificates")
USER, HOME = 1000, "/home/user"
TRUSTED = "/etc/ssl/machine.pem"
TEXT = "How are vectors made?"
LISTENERS = (
    *("inference", "management", "metrics", "grpc_inference", "grpc_management", "exporter"),
    *("prometheus", "alertmanager", "grafana", "gateway", "gateway_metrics"),
)


def two_commands() -> list[str]:
    """The first block of README's first minute, a command a line."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("\n## The first minute\n", 1)[1].split("\n## ", 1)[0]
    block = re.search(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert block is not None
    return block.group(1).splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Path]:
    """The tree, with the user and a clone of the current commit in its home; gone afterwards."""
    demand("mmdebstrap", "nsenter")
    tree = Path(tempfile.mkdtemp(prefix="ek-fresh-"))
    try:
        make_tree(tree, NEEDED)
        tree.chmod(0o755)
        run(["chroot", str(tree), "useradd", "--uid", str(USER), "--create-home", "--shell", "/bin/sh", "user"])
        bundle = tree / HOME.lstrip("/") / "embedkit.bundle"
        run(["git", "-C", str(ROOT), "bundle", "create", str(bundle), "HEAD"])
        trusted = certificates()
        if trusted is not None:
            shutil.copyfile(trusted, tree / TRUSTED.lstrip("/"))
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(f"/etc/{name}", tree / "etc" / name)
        yield tree
    finally:
        shutil.rmtree(tree)


def test_readmes_two_commands_on_a_fresh_machine(machine: Path, tmp_path: Path) -> None:
    """`make up` ends with the right vector served, `make down` leaves no process, port or temporary file, and neither
    has written anything outside the clone but pip's cache."""
    up, down = two_commands()
    ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
    with ExitStack() as stack:
        settings = stack.enter_context(settings_elsewhere(TRUSTED))
        environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": HOME,
            "LANG": "C.UTF-8",
            # this machine's: how its indexes are reached, and ports that nobody else has
            **{f"PIP_{key.upper().replace('-', '_')}": value for key, value in settings.items()},
            **{f"EMBEDKIT_{name.upper()}_PORT": str(port) for name, port in ports.items()},
        }
        init = ["sh", "-c", "sleep infinity & wait"]  # a shell that waits collects orphans, as an init does
        user = Isolated(machine, init, environ, USER, HOME, tmp_path / "log")
        stack.callback(user.kill)

        def does(command: str, cwd: str = f"{HOME}/embedkit") -> str:
            done = user.run("sh", "-c", f"cd {cwd} && {command}")
            assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            return done.stdout

        does("git clone --quiet embedkit.bundle embedkit", HOME)
        before = time.monotonic()
        does(up)
        took_up = time.monotonic() - before
        expected = SentenceTransformer(str(minilm_folder()), device="cpu").encode(TEXT, normalize_embeddings=True)
        url = f"http://127.0.0.1:{ports['inference']}/predictions/minilm"
        answer = requests.post(url, json={"input": TEXT}, timeout=30).json()
        assert float(np.asarray(answer["data"][0]["embedding"]) @ expected) >= MIN_COSINE
        before = time.monotonic()
        does(down)
        took_down = time.monotonic() - before
        assert [one.name() for one in user.processes()] == ["sh", "sleep"]
        assert [name for name, port in ports.items() if not port_is_free("127.0.0.1", port)] == []
        assert list((machine / "tmp").iterdir()) == []
        assert does("git status --short") == ""
        home = {path.name for path in (machine / HOME.lstrip("/")).iterdir()}
        assert home - {".bashrc", ".profile", ".bash_logout"} == {"embedkit", "embedkit.bundle", ".cache"}
    print(f"`{up}` took {took_up:.0f} s, `{down}` {took_down:.1f} s")
