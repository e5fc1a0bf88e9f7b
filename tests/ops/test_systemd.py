"""The systemd unit: systemd's own judges, its command lines, and its firewall in a network of its own."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.settings import Settings
from ops.supervisor.config import config_file
from ops.systemd.before import clear
from ops.systemd.unit import Place, commands, unit

USER = "daemon"  # number 1 on every Debian
MOST_EXPOSED = 25  # tenths; systemd calls less than 50 medium, and less than 20 OK


def place(prefix: Path) -> Place:
    return Place(prefix, Path("/usr"), prefix, None)


@pytest.fixture
def rendered(tmp_path: Path) -> tuple[Settings, Path]:
    """(settings, the unit of a deployment of theirs)."""
    settings = Settings(var=tmp_path / "var", store=tmp_path / "store", stop_timeout_s=17)
    file = tmp_path / "embedkit.service"
    file.write_text(unit(settings, USER, place(Path(sys.prefix))))
    return settings, file


@pytest.mark.needs("systemd-analyze")
def test_systemd_understands_all_of_it(rendered: tuple[Settings, Path]) -> None:
    """systemd-analyze finds nothing to remark, and no more exposure than a program that compiles at run time needs."""
    _, file = rendered
    judged = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert (judged.returncode, judged.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout


def test_it_runs_supervisord_itself_as_the_user(rendered: tuple[Settings, Path]) -> None:
    """One supervisord in the foreground with this deployment's configuration, stopped in order, restarted if killed."""
    settings, file = rendered
    text = file.read_text()
    (command,) = commands(text, "ExecStart")
    python, supervisord = Path(sys.prefix) / "bin" / "python", Path(sys.prefix) / "bin" / "supervisord"
    assert shlex.split(command) == [str(python), str(supervisord), "-n", "-c", str(config_file(settings))]
    for line in (f"User={USER}", "KillMode=mixed", "Restart=on-failure", "OOMPolicy=continue"):
        assert f"\n{line}\n" in text
    (after, *_) = commands(text, "ExecStartPost")
    assert shlex.split(after) == [str(python), "-m", "ops.systemd.after", str(settings.file)]
    (stop,) = commands(text, "TimeoutStopSec")
    assert int(stop) > settings.stop_timeout_s


def test_a_checkout_at_home_stays_readable(tmp_path: Path) -> None:
    """Homes are hidden unless the kit lies in one."""
    settings = Settings(var=tmp_path / "var", store=tmp_path / "store")
    assert "ProtectHome=yes" in unit(settings, USER, place(Path("/opt/embedkit/.venv")))
    assert "ProtectHome=read-only" in unit(settings, USER, place(Path("/home/ann/embedkit/.venv")))


def test_a_path_that_systemd_would_expand_is_refused(tmp_path: Path) -> None:
    """A path with % or quotes is refused by name."""
    with pytest.raises(OpsError, match="a%b"):
        unit(Settings(var=tmp_path / "a%b"), USER, place(Path("/opt")))


def test_before_the_first_up_it_says_what_to_do(tmp_path: Path) -> None:
    """Without a configuration, what runs before supervisord names the command that writes one."""
    with pytest.raises(OpsError, match="run `embedkit up` once as this user"):
        clear(tmp_path / "var" / "state" / "settings.json")


def test_what_started_it_is_spared(tmp_path: Path) -> None:
    """A wrapper that shows this command as its own is no leftover."""
    settings = Settings(var=tmp_path)
    file = settings.file
    file.parent.mkdir()
    file.write_text(settings.model_dump_json())
    done = subprocess.run(
        ["timeout", "30", sys.executable, "-m", "ops.systemd.before", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@contextmanager
def network_of_its_own(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A shell in a network namespace that has loopback alone; ended with all that it started."""
    command = ["unshare", "--net", "bash", "-ec", f"ip link set lo up; {script}", "bash", *arguments]
    environ = os.environ | {"python": sys.executable}
    shell = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        yield shell
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        if shell.stdout:
            shell.stdout.close()


# Users by number, so that it does not matter how this machine names them.
ASK = """
serve() { "$python" -m http.server --bind 127.0.0.1 "$1" >/dev/null 2>&1 & }
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
ask() { as "$1" curl -s -o /dev/null -m 5 "http://127.0.0.1:$2/" && echo "$1 $2 met" || echo "$1 $2 refused"; }
serve "$1"; serve "$2"
until [ "$(ask 0 "$1") $(ask 0 "$2")" = "0 $1 met 0 $2 met" ]; do sleep 0.05; done
ask 65534 "$1"
eval "$3"; eval "$3"
ask 65534 "$1"; ask 65534 "$2"; ask 1 "$1"; ask 0 "$1"
eval "$4"
ask 65534 "$1"
"""


@pytest.mark.needs("root", "nft", "ip", "curl")
def test_the_firewall_lets_the_services_user_alone_manage(rendered: tuple[Settings, Path]) -> None:
    """While the unit runs, another user is refused at the management port, not at inference; afterwards it is gone."""
    settings, file = rendered
    text = file.read_text()
    (start,) = [line for line in commands(text, "ExecStartPre") if line.startswith("nft ")]
    (stop,) = [line for line in commands(text, "ExecStopPost") if line.startswith("nft ")]
    ports = [str(settings.management_port), str(settings.inference_port)]
    with network_of_its_own(ASK, *ports, start, stop) as shell:
        said, _ = shell.communicate(timeout=30)
    management, inference = ports
    assert said.splitlines() == [
        f"65534 {management} met",
        f"65534 {management} refused",
        f"65534 {inference} met",
        f"1 {management} met",
        f"0 {management} met",
        f"65534 {management} met",
    ]


def test_inference_can_be_closed_too(tmp_path: Path) -> None:
    """With a proxy that has keys, its users are kept from the inference port; without a firewall nothing is."""
    settings = Settings(var=tmp_path / "var")
    assert f", {settings.inference_port} }}" in unit(settings, USER, place(tmp_path), inference=True)
    assert "nft" not in unit(settings, USER, place(tmp_path), firewall=False)
