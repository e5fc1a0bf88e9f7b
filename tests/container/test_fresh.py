"""A fresh machine: a Debian with what README asks for and no more, an ordinary user, a clone, README's commands."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests
from sentence_transformers import SentenceTransformer

from env.ports import port_is_free
from ops.probe import MIN_COSINE
from ops.settings import ROOT
from tests.container.debian import apt_options, certificates, make_tree, run, settings_elsewhere
from tests.container.isolated import Isolated
from tests.e2e.stack import free_ports
from tests.model_folders import minilm_folder

pytestmark = [pytest.mark.fresh, pytest.mark.needs("root", "mmdebstrap"), pytest.mark.timeout(3600)]

# What "The first minute" says is needed, as Debian calls it, and what a clone over HTTPS takes.
NEEDED = ("python3.11", "python3.11-venv", "make", "git", "ca-certificates")
USERS = {"user": 1000, "root": 0}
HOMES = {"user": "/home/user", "root": "/srv"}  # /root is closed to the other users that some tests let look
PATHS = {"user": "/usr/local/bin:/usr/bin:/bin", "root": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
TESTS_S = 3000
TRUSTED = "/etc/ssl/machine.pem"
TEXT = "How are vectors made?"
LISTENERS = (
    *("inference", "management", "metrics", "grpc_inference", "grpc_management", "exporter"),
    *("prometheus", "alertmanager", "grafana", "gateway", "gateway_metrics"),
)


def first_minute() -> list[str]:
    """The first block of README's first minute, a command a line."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("\n## The first minute\n", 1)[1].split("\n## ", 1)[0]
    block = re.search(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert block is not None
    return block.group(1).splitlines()


@dataclass(frozen=True)
class Shell:
    """A user of the fresh machine, in a clone of the current commit."""

    machine: Path
    home: str
    inside: Isolated

    def __call__(self, command: str, within_s: float = 600) -> str:
        """What a command prints; the test fails where it does."""
        done = self.inside.run("sh", "-c", f"cd {self.home}/embedkit && {command}", timeout=within_s)
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def left(self) -> list[str]:
        """Processes that run, and what is in /tmp, but for the folder that pytest keeps there."""
        running = [one.name() for one in self.inside.processes()]
        files = [path.name for path in (self.machine / "tmp").iterdir()]
        return running + [name for name in files if not name.startswith("pytest-of-")]


@pytest.fixture
def machine() -> Iterator[Path]:
    """The tree, with an ordinary user, and what this machine lends it to reach its indexes; gone afterwards."""
    tree = Path(tempfile.mkdtemp(prefix="ek-fresh-"))
    try:
        make_tree(tree, NEEDED)
        tree.chmod(0o755)
        run(["chroot", str(tree), "useradd", "-u", str(USERS["user"]), "-m", "-s", "/bin/sh", "user"])
        (tree / "etc/apt/apt.conf.d/99machine").write_text("".join(f"{line}\n" for line in apt_options()))
        trusted = certificates()
        if trusted is not None:
            shutil.copyfile(trusted, tree / TRUSTED.lstrip("/"))
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(f"/etc/{name}", tree / "etc" / name)
        yield tree
    finally:
        shutil.rmtree(tree)


@contextmanager
def logged_in(machine: Path, name: str, log: Path, **more: str) -> Iterator[Shell]:
    """The user, with a clone and with `more` in the environment."""
    home = HOMES[name]
    run(["git", "-C", str(ROOT), "bundle", "create", str(machine / home.lstrip("/") / "embedkit.bundle"), "HEAD"])
    with settings_elsewhere(TRUSTED) as settings:
        environ = {
            "PATH": PATHS[name],
            "HOME": home,
            "LANG": "C.UTF-8",
            # this machine's: how its indexes are reached
            **{f"PIP_{key.upper().replace('-', '_')}": value for key, value in settings.items()},
            **({"SSL_CERT_FILE": settings["cert"]} if "cert" in settings else {}),  # uv's
            **more,
        }
        init = ["sh", "-c", "sleep infinity & wait"]  # a shell that waits collects orphans, as an init does
        inside = Isolated(machine, init, environ, USERS[name], home, log)
        try:
            cloned = inside.run("git", "clone", "--quiet", "embedkit.bundle", "embedkit")
            assert cloned.returncode == 0, cloned.stderr
            yield Shell(machine, home, inside)
        finally:
            inside.kill()


def test_the_service_on_a_fresh_machine(machine: Path, tmp_path: Path) -> None:
    """`make up` ends with the right vector served, `make down` leaves no process, port or temporary file, and neither
    has written anything outside the clone but pip's cache."""
    up, _, down = first_minute()
    ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
    numbers = {f"EMBEDKIT_{name.upper()}_PORT": str(port) for name, port in ports.items()}  # that nobody else has
    with logged_in(machine, "user", tmp_path / "log", **numbers) as user:
        before = time.monotonic()
        user(up)
        took_up = time.monotonic() - before
        expected = SentenceTransformer(str(minilm_folder()), device="cpu").encode(TEXT, normalize_embeddings=True)
        url = f"http://127.0.0.1:{ports['inference']}/predictions/minilm"
        answer = requests.post(url, json={"input": TEXT}, timeout=30).json()
        assert float(np.asarray(answer["data"][0]["embedding"]) @ expected) >= MIN_COSINE
        before = time.monotonic()
        user(down)
        took_down = time.monotonic() - before
        assert user.left() == ["sh", "sleep"]
        assert [name for name, port in ports.items() if not port_is_free("127.0.0.1", port)] == []
        assert user("git status --short") == ""
        home = {path.name for path in (machine / user.home.lstrip("/")).iterdir()}
        assert home - {".bashrc", ".profile", ".bash_logout"} == {"embedkit", "embedkit.bundle", ".cache"}
    print(f"`{up}` took {took_up:.0f} s, `{down}` {took_down:.1f} s")


def test_the_tests_on_a_fresh_machine_as_a_user(machine: Path, tmp_path: Path) -> None:
    """`make test` passes without a right: it installs nothing, and names in a line what it has not proven."""
    _, test, _ = first_minute()
    installed = run(["chroot", str(machine), "dpkg-query", "--show"])
    with logged_in(machine, "user", tmp_path / "log") as user:
        said = user(f"{test} 2>&1", TESTS_S)
        assert "tests: not here: " in said
        (line,) = re.findall(r"^not proven here, for want of (.*)", said, re.MULTILINE)
        assert {"haproxy", "nix (nix-bin)", "nft (nftables)", "root"} <= set(re.findall(r"(?:^|; )(.*?): \d+", line))
        assert user.left() == ["sh", "sleep"]
        assert user("git status --short") == ""
    assert run(["chroot", str(machine), "dpkg-query", "--show"]) == installed
    print(said.splitlines()[-1])


def test_the_tests_on_a_fresh_machine_as_root(machine: Path, tmp_path: Path) -> None:
    """`make test` installs what it needs, says so, starts no service, and leaves nothing unproven."""
    _, test, _ = first_minute()
    with logged_in(machine, "root", tmp_path / "log") as root:
        said = root(f"{test} 2>&1", TESTS_S)
        assert re.search(r"^tests: installing .* haproxy .* nix-bin ", said, re.MULTILINE)
        assert "not proven here" not in said
        assert root.left() == ["sh", "sleep"]
        assert root("git status --short") == ""
    print(said.splitlines()[-1])
