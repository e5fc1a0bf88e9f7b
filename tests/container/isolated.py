"""Run a command as process 1 of a Debian tree, in namespaces of its own, as a container engine would."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.container.debian import run

DEVICES = ("null", "zero", "full", "random", "urandom")
# $1 is the tree, $2 ro or rw, then pairs of volumes until --, then the command. All mounts end with the namespace.
PREPARE = f"""
set -e
root=$1 mode=$2; shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
for device in {" ".join(DEVICES)}; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
while [ "$1" != -- ]; do mount --bind "$1" "$root/$2"; shift 2; done
shift
mount -o "remount,bind,$mode" "$root"
exec "$@"
"""


@contextmanager
def network(name: str, here: str, there: str) -> Iterator[str]:
    """A network namespace with one link to this machine: it has the address `there`, this machine `here`."""
    inside, outside = f"{name}i", f"{name}o"
    run(["ip", "netns", "add", name])
    try:
        run(["ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name])
        run(["ip", "addr", "add", f"{here}/30", "dev", outside])
        run(["ip", "link", "set", outside, "up"])
        for words in (["addr", "add", f"{there}/30", "dev", inside], ["link", "set", inside, "up"]):
            run(["ip", "-n", name, *words])
        run(["ip", "-n", name, "link", "set", "lo", "up"])
        yield there
    finally:
        run(["ip", "netns", "delete", name])


@dataclass
class Isolated:
    """One command on a tree. `volumes` maps paths inside to folders here; `network` names a namespace, or is empty for
    this machine's own network; `user` is uid and gid."""

    tree: Path
    command: Sequence[str]
    environ: Mapping[str, str]
    user: int
    cwd: str
    log: Path
    volumes: Mapping[str, Path] = field(default_factory=dict)
    network: str = ""
    read_only: bool = False

    def __post_init__(self) -> None:
        volumes = [str(part) for inside, here in self.volumes.items() for part in (here, inside.lstrip("/"))]
        inside = [
            *("setpriv", "--no-new-privs", "chroot", f"--userspec={self.user}:{self.user}", "--groups="),
            str(self.tree),
            *self._clean(self.command),
        ]
        command = [
            *(["nsenter", f"--net=/run/netns/{self.network}"] if self.network else []),
            *("unshare", "--mount", "--pid", "--fork", "--propagation", "private"),
            *("sh", "-c", PREPARE, "sh", str(self.tree), "ro" if self.read_only else "rw", *volumes, "--", *inside),
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.started = time.monotonic()
        while not self._inside():
            assert self.alive, self.log.read_text()
            time.sleep(0.01)

    def _inside(self) -> bool:
        """Whether process 1 has come as far as the tree: everything is mounted then."""
        for child in psutil.Process(self._process.pid).children():
            with contextlib.suppress(OSError):
                return Path(f"/proc/{child.pid}/root").readlink() == self.tree
        return False

    def _clean(self, command: Sequence[str]) -> list[str]:
        return [
            "env",
            "-i",
            f"--chdir={self.cwd}",
            *(f"{key}={value}" for key, value in self.environ.items()),
            *command,
        ]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process 1, as this machine numbers it."""
        return psutil.Process(self._process.pid).children()[0].pid

    def processes(self) -> list[psutil.Process]:
        """All processes of the namespace, process 1 included."""
        return [one for one in psutil.Process(self._process.pid).children(recursive=True) if one.is_running()]

    def run(self, *command: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the same user: what `docker exec` does."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--root"]
        become = [f"--setuid={self.user}", f"--setgid={self.user}"]
        return subprocess.run(
            [*enter, *become, *self._clean(command)], capture_output=True, text=True, timeout=timeout, check=False
        )

    def stop(self, timeout: float = 60) -> tuple[int, float]:
        """SIGTERM to process 1; its exit status, and the seconds that it took."""
        started = time.monotonic()
        psutil.Process(self.pid).send_signal(signal.SIGTERM)
        return self._process.wait(timeout), time.monotonic() - started

    def kill(self) -> None:
        """End it, whatever it does: with process 1 the kernel ends the rest of the namespace."""
        if self.alive:
            for child in psutil.Process(self._process.pid).children():
                child.kill()
        self._process.wait()
