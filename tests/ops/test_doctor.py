"""Each failure of `embedkit doctor` is brought about, its command is run in the same shell, and it passes then.

What needs a TorchServe is in tests/e2e, what builds an environment in tests/env/test_repair.py; of GPU drivers, which
cannot be had here, tests/env/test_checks.py has the words.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil
import pytest

from archives.store import verification_path
from env.cgroup import Memory
from env.checks import as_root
from env.hardware import Hardware, detect, own_bytes
from ops import doctor
from ops.desired import Served, changes_file, desired_file, previous_file, read_models, rolled_back_file, write_models
from ops.doctor import placement
from ops.gateway.keys import keys_file, read_keys, with_new, write_keys
from ops.gateway.knock import knock
from ops.gateway.program import gateway_command, gateway_files
from ops.observers import write_files
from ops.settings import ROOT, Settings
from ops.supervisor.config import config_file, socket_file, supervisord_conf
from ops.supervisor.control import environment
from ops.supervisor.process import end_unsupervised
from ops.supervisor.programs import Program, section
from ops.torchserve.leftovers import our_processes
from tests.e2e.stack import BIN, free_ports
from tests.model_folders import make_bge_shaped
from tests.programs import path

SERVERS = ("inference", "management", "metrics", "grpc_inference", "grpc_management")
LISTENERS = tuple(f"{name}_port" for name in (*SERVERS, "exporter", "gateway", "gateway_metrics"))
SERVED = Served("gone", "1.0", "gone-1.0-0.mar", "0")
# What `make up` leaves behind that the doctor looks at: the settings it was run with. And root needs no sudo.
MAKE_UP = "from ops.settings import load_settings; from ops.up import write_settings; write_settings(load_settings())"
# What `embedkit up` does before anything is started.
PREPARE = (
    "from archives.progress import SILENT; from env.hardware import detect; from ops.desired import commit; "
    "from ops.prepare import prepare, spec_of; from ops.settings import load_settings; settings = load_settings(); "
    "commit(settings, prepare(spec_of(settings, 'tiny'), settings, detect(), SILENT).served)"
)
END = (
    "from ops.settings import load_settings; from ops.supervisor.process import end_unsupervised; "
    "end_unsupervised(load_settings(), print)"
)
SHIMS = {"make": f'[ "$1" != up ] || exec {sys.executable} -c "{MAKE_UP}"', "sudo": 'exec "$@"'}
ROOT_ONLY = pytest.mark.needs("root")  # mounts, and changes user
STRANGER = pytest.mark.needs("root", "a checkout that other users may enter")
HAPROXY = pytest.mark.needs("haproxy")
CAPABILITIES = int(re.findall(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())[0], 16)
RAISES_LIMITS = pytest.mark.skipif(not CAPABILITIES >> 24 & 1, reason="only CAP_SYS_RESOURCE may raise a hard limit")


@dataclass
class Place:
    """A deployment that is not running, and a shell in it. `user` is the one that the doctor is run by."""

    folder: Path
    until: ExitStack
    part: str = "machine"
    check: str = ""
    before: str = "true"
    user: int = field(default_factory=os.getuid)
    environ: dict[str, str] = field(default_factory=dict)
    after: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        self.settings = Settings(var=self.folder / "var", store=self.folder / "store", **ports)
        shims = self.folder / "bin"
        shims.mkdir()
        for name, body in SHIMS.items():
            self.shim(name, body)
        known = {key: value for key, value in os.environ.items() if not key.startswith("EMBEDKIT_")}
        self.environ = {
            **known,
            "PATH": f"{shims}:{BIN}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "EMBEDKIT_VAR": str(self.settings.var),
            "EMBEDKIT_STORE": str(self.settings.store),
            "EMBEDKIT_MODELS_FILE": str(self.folder / "models.toml"),
            **{f"EMBEDKIT_{name.upper()}": str(port) for name, port in ports.items()},
        }
        shutil.copy(ROOT / "archives" / "models.toml", self.folder / "models.toml")

    def shim(self, name: str, body: str) -> None:
        """A program of this shell's own."""
        (self.folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.folder / "bin" / name).chmod(0o755)

    def embedkit_up(self, code: str) -> None:
        """Of `embedkit up` this alone is done."""
        up = f'[ "$1" = up ] && exec {shlex.quote(sys.executable)} -c "{code}"'
        self.shim("embedkit", f'{up}\nexec {BIN}/embedkit "$@"')

    def supervise(self, *programs: Program) -> None:
        """supervisord of this deployment, with these programs alone."""
        folders = (self.settings.etc, self.settings.run, self.settings.logs)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        head = supervisord_conf(self.settings).partition("\n[program:")[0]
        config = config_file(self.settings)
        config.write_text(head + "".join(section(one, self.settings) for one in programs))
        self.until.callback(end_unsupervised, self.settings, lambda _: None)
        subprocess.run([BIN / "supervisord", "-c", config], env=environment(), check=True)

    def look(self, fix: str = "true") -> dict[str, str] | None:
        """The doctor's finding, after `fix` has been run in the same shell; None where it has nothing to say."""
        as_user = f"setpriv --reuid {self.user} --regid {self.user} --clear-groups " if self.user != os.getuid() else ""
        look = f"{as_user}{sys.executable} -m tests.ops.doctor_part {self.part}"
        script = f"cd {shlex.quote(str(ROOT))}\n{self.before}\n{fix}\n{look}"
        done = subprocess.run(["bash", "-c", script], env=self.environ, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        findings = orjson.loads(done.stdout.rpartition(b"\n")[2])  # below what the commands say
        return next((one for one in findings if one["check"] == self.check), None)


def taken_ports(place: Place) -> str:
    """Two at once, and the ports a hundred above are taken too."""
    for name in ("inference", "exporter"):
        for port in (place.settings.ports[name], place.settings.ports[name] + 100):
            place.until.enter_context(socket.create_server(("127.0.0.1", port)))
    place.check = "ports"
    return f"inference {place.settings.inference_port} is taken by {psutil.Process().name()} (pid {os.getpid()})"


def other_host(place: Place) -> str:
    place.environ["EMBEDKIT_HOST"] = "192.0.2.1"
    place.check = "host"
    return "192.0.2.1"


def gateways_other_host(place: Place) -> str:
    place.environ["EMBEDKIT_GATEWAY_HOST"] = "2001:db8::1"
    place.check = "gateway_host"
    return "2001:db8::1"


def odd_path(place: Place) -> str:
    place.environ["EMBEDKIT_VAR"] = str(place.folder / "a#b")
    place.check = "paths"
    return "the character '#'"


def bad_java_home(place: Place) -> str:
    place.environ["JAVA_HOME"] = "/nowhere"
    place.part = place.check = "jdk"
    return "/nowhere"


def few_files(place: Place) -> str:
    place.before, place.check = "ulimit -n 1024", "limits"
    return "1024 open files"


def strangers_folder(place: Place) -> str:
    place.settings.var.mkdir()
    return unwritable(place)


def another_users_folder(place: Place) -> str:
    """It stays that user's: a store may be shared, and what is served from it would go."""
    place.settings.var.mkdir()
    os.chown(place.settings.var, 12345, 12345)
    home = place.folder / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    place.environ["HOME"] = str(home)
    place.shim("make", "true")  # as root it would leave settings that this user cannot read
    place.after = lambda: same(place.settings.var.stat().st_uid, 12345)
    return unwritable(place)


def strangers_parent(place: Place) -> str:
    return unwritable(place)


def unwritable(place: Place) -> str:
    place.settings.store.mkdir()
    os.chown(place.settings.store, 65534, 65534)
    place.user, place.check = 65534, "disk"
    return "cannot be written by this user (uid 65534)"


def own_folder_without_leave(place: Place) -> str:
    place.settings.var.mkdir(mode=0o500)
    os.chown(place.settings.var, 65534, 65534)
    return unwritable(place)


def mounted(place: Place, options: str) -> None:
    place.settings.var.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place.settings.var], check=True)
    place.until.callback(lambda: subprocess.run(["umount", place.settings.var], check=True))
    place.check = "disk"


def read_only_disk(place: Place) -> str:
    mounted(place, "ro")
    return "cannot be written"


def full_disk(place: Place) -> str:
    mounted(place, "size=32m")
    return "32 MB free"


def keys(place: Place, content: bytes, mode: int = 0o600) -> None:
    file = keys_file(place.settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(mode)
    place.part = place.check = "gateway"


def keys_that_others_read(place: Place) -> str:
    keys(place, b"", 0o644)
    return "mode 0644"


def strangers_keys(place: Place) -> str:
    keys(place, b"")
    place.user = 65534
    return "Permission denied"


def damaged_keys(place: Place) -> str:
    """Good ones among lines that are none, one twice and bytes that are no text."""
    good: dict[str, str] = {}
    for name in ("alice", "bob"):
        good, _ = with_new(good, name)
    write_keys(place.settings, good)
    content = keys_file(place.settings).read_bytes()
    damaged = b"\xff\xfe\n" + content + b"abc alice\n" + content + b"0" * 64 + b" two words\n"
    keys(place, damaged)
    aside = Path(f"{keys_file(place.settings)}.~1~")
    place.after = lambda: same((read_keys(place.settings), aside.read_bytes()), (good, damaged))
    return "is no text"


def same(found: object, wanted: object) -> None:
    assert found == wanted


def keys_in_a_folder(place: Place) -> str:
    keys_file(place.settings).mkdir(parents=True)
    place.part = place.check = "gateway"
    return "Is a directory"


def open_to_all(place: Place) -> str:
    place.environ["EMBEDKIT_GATEWAY_HOST"] = "0.0.0.0"
    place.part = place.check = "gateway"
    return "can be reached by others"


def open_with_tls(place: Place) -> str:
    place.environ["EMBEDKIT_GATEWAY_TLS"] = str(ROOT / "pyproject.toml")
    return open_to_all(place)


def no_certificate(place: Place) -> str:
    pem = place.folder / "tls" / "gateway.pem"
    place.environ["EMBEDKIT_GATEWAY_TLS"] = str(pem)
    place.part = place.check = "gateway"
    place.after = lambda: same(pem.read_text().count("-----BEGIN"), 2)
    return "is no file"


def lost_keys(place: Place) -> str:
    """The user's own file, which is in a folder that is not there either."""
    place.environ["EMBEDKIT_GATEWAY_KEYS"] = str(place.folder / "secret" / "keys")
    place.part = place.check = "gateway"
    return "which is not there"


def lost_keys_of_an_open_one(place: Place) -> str:
    place.environ["EMBEDKIT_GATEWAY_HOST"] = "0.0.0.0"
    return lost_keys(place)


def lets_everybody_in(place: Place) -> str:
    """HAProxy reads the file of keys when it starts, and these came later."""
    settings = place.settings
    write_keys(settings, None)
    write_files({"gateway": gateway_files(settings, ())})
    place.supervise(Program("gateway", gateway_command(path("haproxy"), settings)))
    deadline = time.monotonic() + 10
    while knock(settings) != "open":
        assert time.monotonic() < deadline, (settings.logs / "gateway.log").read_text()
    good, _ = with_new({}, "alice")
    write_keys(settings, good)
    place.part = place.check = "gateway"
    place.after = lambda: same((knock(settings), read_keys(settings)), ("closed", good))
    return "lets everybody in, and must not (1 keys)"


def lets_everybody_in_beside_keys_that_others_read(place: Place) -> str:
    lets_everybody_in(place)
    keys_file(place.settings).chmod(0o644)
    return "lets everybody in, and must not"


def silent_supervisord(place: Place) -> str:
    place.supervise()
    socket_file(place.settings).unlink()
    place.embedkit_up(END)
    place.part, place.check = "supervision", "supervisord"
    return "runs and does not answer"


def damaged(file: Callable[[Settings], Path]) -> Callable[[Place], str]:
    def state(place: Place) -> str:
        file(place.settings).parent.mkdir(parents=True)
        file(place.settings).write_text("{")
        place.part, place.check = "state", "desired state"
        return "is damaged"

    return state


def models(place: Place, text: str) -> None:
    (place.folder / "models.toml").write_text(text)
    place.part = "placement"


def damaged_models(place: Place) -> str:
    models(place, "[minilm\n")
    place.check = "models"
    return "models.toml"


def unknown_default(place: Place) -> str:
    place.environ["EMBEDKIT_DEFAULT_MODEL"] = "minilmm"
    place.part = place.check = "placement"
    return "minilmm"


def served_and_unknown(place: Place) -> str:
    write_models(desired_file(place.settings), {"gone": SERVED})
    place.part = place.check = "placement"
    return "gone"


def too_many_workers(place: Place) -> str:
    file = place.folder / "models.toml"
    models(place, file.read_text().replace("[minilm]\n", "[minilm]  # the small one\nworkers = 256\n"))
    place.check = "placement"
    return "256 workers"


def no_gpu(place: Place) -> str:
    file = place.folder / "models.toml"
    models(place, file.read_text().replace("[minilm]\n", '[minilm]\ndevice = "cuda"\n'))
    place.check = "placement"
    return "device is cuda and there is no visible GPU"


def packed(place: Place) -> Path:
    """A small model that is served, as far as `embedkit up` comes without a TorchServe; its archive in service."""
    make_bge_shaped(place.folder / "tiny", layers=2, hidden=64)
    entry = '[tiny]\nsource = { folder = "tiny" }\nhandler = "bge"\nworkers = 1\nbackend = "torch"\ndtype = "float32"\n'
    models(place, entry)
    place.part, place.check = "archives", "archive tiny"
    place.embedkit_up(PREPARE)
    subprocess.run(["embedkit", "up", "tiny"], env=place.environ, cwd=ROOT, check=True)
    return place.settings.served / read_models(desired_file(place.settings))["tiny"].archive


def changed_in_place(place: Place) -> str:
    """So is the store's own, which is the same file."""
    with packed(place).open("r+b") as file:
        file.seek(-100_000, os.SEEK_END)
        file.write(os.urandom(1000))
    return "is not the file that was verified"


def cut_off(place: Place) -> str:
    archive = packed(place)
    os.truncate(archive, 1000)
    return archive.name


def missing_archive(place: Place) -> str:
    archive = packed(place)
    archive.unlink()
    return archive.name


def lost_verification(place: Place) -> str:
    """The archive, which is good, stays the file that it was."""
    archive = packed(place)
    verification_path(archive).unlink()
    inode = archive.stat().st_ino
    place.after = lambda: same(archive.stat().st_ino, inode)
    return "when it was verified is gone"


CASES: tuple[tuple[Callable[[Place], str], str], ...] = (
    (taken_ports, "EMBEDKIT_INFERENCE_PORT="),
    (other_host, "EMBEDKIT_HOST=127.0.0.1 make up"),
    (gateways_other_host, "EMBEDKIT_GATEWAY_HOST=127.0.0.1 make up"),
    (odd_path, "export EMBEDKIT_VAR="),
    (bad_java_home, "unset JAVA_HOME"),
    (few_files, as_root("prlimit")),
    (strangers_folder, "sudo chown"),
    (another_users_folder, "export EMBEDKIT_VAR="),
    (strangers_parent, "sudo install -d"),
    (own_folder_without_leave, "chmod u+rwx"),
    (read_only_disk, "mount -o remount,rw"),
    (full_disk, "make down && export EMBEDKIT_VAR="),
    (keys_that_others_read, "chmod 600"),
    (strangers_keys, "sudo chown 65534"),
    (damaged_keys, "(umask 077; LC_ALL=C awk"),
    (keys_in_a_folder, "mv "),
    (open_to_all, "EMBEDKIT_GATEWAY_HOST=127.0.0.1 make up"),
    (open_with_tls, "embedkit key add first"),
    (no_certificate, "(umask 077; mkdir -p"),
    (lost_keys, "embedkit key add first"),
    (lost_keys_of_an_open_one, "embedkit key add first && EMBEDKIT_GATEWAY_HOST=127.0.0.1 make up"),
    (lets_everybody_in, "supervisorctl -c "),
    (lets_everybody_in_beside_keys_that_others_read, "chmod 600"),
    (silent_supervisord, "embedkit up"),
    (damaged(desired_file), "rm "),
    (damaged(previous_file), "rm "),
    (damaged(rolled_back_file), "rm "),
    (damaged(changes_file), "rm "),
    (damaged_models, "cp --backup=numbered"),
    (changed_in_place, "rm -f"),
    (cut_off, "rm -f"),
    (missing_archive, "rm -f"),
    (lost_verification, "embedkit up tiny"),
    (unknown_default, "EMBEDKIT_DEFAULT_MODEL="),
    (served_and_unknown, "embedkit down gone"),
    (too_many_workers, f"{sys.executable} -m ops.tune.write"),
    (no_gpu, f"{sys.executable} -m ops.tune.write"),
)
GATEWAY = (keys_that_others_read, damaged_keys, keys_in_a_folder, open_to_all, open_with_tls, lost_keys)
MARKS: dict[Callable[[Place], str], tuple[pytest.MarkDecorator, ...]] = {
    **dict.fromkeys((strangers_folder, another_users_folder, strangers_parent, own_folder_without_leave), (STRANGER,)),
    **dict.fromkeys((read_only_disk, full_disk), (ROOT_ONLY,)),
    **dict.fromkeys((*GATEWAY, lost_keys_of_an_open_one, lets_everybody_in), (HAPROXY,)),
    lets_everybody_in_beside_keys_that_others_read: (HAPROXY,),
    strangers_keys: (STRANGER, HAPROXY),
    no_certificate: (HAPROXY, pytest.mark.needs("openssl")),
    few_files: (RAISES_LIMITS,),
}


@pytest.fixture
def place() -> Iterator[Place]:
    """Below a folder that other users may enter."""
    with ExitStack() as until:
        folder = Path(until.enter_context(tempfile.TemporaryDirectory(prefix="embedkit doctor ")))
        folder.chmod(0o755)
        yield Place(folder, until)


@pytest.mark.parametrize(
    ("broken", "command"),
    [
        pytest.param(*case, marks=MARKS.get(case[0], ()), id=f"{number}-{case[0].__name__}")
        for number, case in enumerate(CASES)
    ],
)
def test_the_command_makes_it_pass(place: Place, broken: Callable[[Place], str], command: str) -> None:
    """The finding fails and names the fault; its command, run in the same shell, is enough."""
    named = broken(place)
    found = place.look()
    assert found is not None
    assert found["status"] == "fail"
    assert named in found["detail"]
    assert found["fix"].startswith(command)
    again = place.look(found["fix"])
    assert again is None or again["status"] != "fail", again
    place.after()


HOLDS = """
import mmap, os, signal, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
taken = bytearray(os.urandom(1)) * (300 << 20)
mapped = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)
sum(mapped[::4096])
child = os.fork()
print(flush=True)
time.sleep(120)
"""


def test_what_our_own_processes_hold_is_there_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's own memory counts as free, what it shares with a child once; not what it has from a file, which is the
    page cache's, and never more than there is in all."""
    settings = Settings(var=tmp_path / "var")
    weights = tmp_path / "weights"
    weights.write_bytes(os.urandom(200 << 20))
    command = [sys.executable, "-c", HOLDS, str(weights), "--sock-name", str(settings.temp / ".ts.sock.9000")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout is not None
            worker.stdout.readline()
            found = our_processes(settings)
            pids = {one.pid for one in found}
            assert len(pids) == 2
            assert 300 << 20 < sum(map(own_bytes, pids)) < 400 << 20
            assert all(150 << 20 < own_bytes(pid) < 200 << 20 for pid in pids)
            (child,) = (one for one in found if one.pid != worker.pid)
            child.kill()
            child.wait(timeout=10)
            held = own_bytes(worker.pid)
            assert 300 << 20 < held < 400 << 20
            monkeypatch.setattr("env.hardware.memory", lambda: Memory(8 << 30, 1 << 30))
            assert abs(detect({worker.pid}).memory_bytes - (1 << 30) - held) < 10 << 20
            monkeypatch.setattr("env.hardware.memory", lambda: Memory(1 << 30, 900 << 20))
            assert detect({worker.pid}).memory_bytes == 1 << 30
        finally:
            for one in psutil.Process(worker.pid).children():
                one.kill()
            worker.kill()
    assert own_bytes(worker.pid) == 0


def test_a_running_kit_is_judged_as_if_it_started_anew(tmp_path: Path) -> None:
    """On a machine that its own workers fill, what is served fits still; a machine that is too small does not hide."""
    settings = Settings(var=tmp_path / "var", store=tmp_path / "store", default_model="minilm")
    assert placement(settings, {}, Hardware(2, 4 << 30)).status == "ok"
    found = placement(settings, {}, Hardware(2, 1 << 30))
    assert found.status == "fail"
    assert found.fix.endswith("minilm workers=1")
    assert placement(settings, {"minilm": SERVED}, Hardware(2, 1 << 20)).fix == "embedkit down minilm"


def test_the_checkouts_own_models_come_back_by_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout the committed models.toml is put in place of one that cannot be read, which git keeps."""
    file = tmp_path / "archives" / "models.toml"
    file.parent.mkdir()
    shutil.copy(ROOT / "archives" / "models.toml", file)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    file.write_text("[minilm\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    settings = Settings(var=tmp_path / "var", store=tmp_path / "store", models_file=file)
    found = placement(settings, {}, detect())
    assert (found.check, found.status) == ("models", "fail")
    names = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
    subprocess.run(["bash", "-c", found.fix], check=True, env=os.environ | dict.fromkeys(names, "a@b"))
    assert placement(settings, {}, detect()).status == "ok"
    kept = subprocess.run([*git, "stash", "show", "-p"], check=True, capture_output=True, text=True).stdout
    assert "+[minilm\n" in kept
