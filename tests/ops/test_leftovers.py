"""Which processes are ours to end."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from ops.settings import Settings
from ops.supervisor.config import socket_file
from ops.torchserve import leftovers


def settings_in(folder: Path) -> Settings:
    return Settings(var=folder)


def test_ours_are_known_by_our_paths(tmp_path: Path) -> None:
    """A JVM with our config and a worker with a socket in our TEMP are ours; those of another TorchServe are not."""
    settings = settings_in(tmp_path)
    java = ["java", "org.pytorch.serve.ModelServer", "-f"]
    worker = ["python", "model_service_worker.py", "--sock-type", "unix", "--sock-name"]
    assert leftovers.is_server([*java, str(settings.etc / "config.properties")], settings)
    assert not leftovers.is_server([*java, "/etc/torchserve/config.properties"], settings)
    assert leftovers.is_worker([*worker, str(settings.temp / ".ts.sock.9000")], settings)
    assert not leftovers.is_worker([*worker, "/tmp/.ts.sock.9000"], settings)
    assert not leftovers.is_worker([*worker, f"{settings.temp}-other/.ts.sock.9000"], settings)
    assert not leftovers.is_worker([], settings)


@contextlib.contextmanager
def running(words: Iterable[object], mark: str | None = None) -> Iterator[psutil.Process]:
    """A process with these words on its command line, and supervisord's mark in its environment."""
    environ = {key: value for key, value in os.environ.items() if key != leftovers.MARK}
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environ | ({leftovers.MARK: mark} if mark else {})
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        try:
            yield psutil.Process(started.pid)
        finally:
            started.kill()


def test_a_reader_of_our_files_is_not_ours(tmp_path: Path) -> None:
    """`less var/etc/haproxy.cfg`, `vim x=var/etc/…` and whatever else names our files lives; what our supervisord has
    started is ours, whatever its command line, and a program of another supervisord is not."""
    settings = settings_in(tmp_path)
    socket = socket_file(settings)
    files = (settings.etc / "haproxy.cfg", f"--config.file={settings.etc / 'prometheus.yml'}", settings.file)
    with (
        running(["ops.exporter", *files]) as reader,
        running(files, f"unix://{socket}-of-another") as other,
        running([], f"unix://{socket}") as ours,
    ):
        assert [one.pid for one in leftovers.everything(settings)] == [ours.pid]
        assert leftovers.end(leftovers.everything(settings)) == [ours.pid]
        assert reader.is_running()
        assert other.is_running()


@pytest.mark.needs("root")
def test_what_runs_in_a_container_is_not_ours(tmp_path: Path) -> None:
    """The host's root sees its processes too: with the same paths, which are other files there, they live."""
    settings = settings_in(tmp_path)
    words = ["unshare", "--pid", "--fork", "--kill-child", "sleep", "60"]
    with subprocess.Popen(words, env=os.environ | {leftovers.MARK: f"unix://{socket_file(settings)}"}) as outside:
        while not (inside := psutil.Process(outside.pid).children()) or inside[0].name() != "sleep":
            time.sleep(0.02)
        assert [one.pid for one in leftovers.everything(settings)] == [outside.pid]
        outside.kill()


def test_ours_are_known_where_a_link_leads_now(tmp_path: Path) -> None:
    """A var/ that was moved, with a link left in its place, still has the processes that were started before."""
    (tmp_path / "now").mkdir()
    (tmp_path / "before").symlink_to("now")
    settings = settings_in(tmp_path / "now")
    before = tmp_path / "before"
    java = ["java", leftovers.SERVER_CLASS, "-f", str(before / "etc" / "config.properties")]
    assert leftovers.is_server(java, settings)
    assert leftovers.is_worker(["--sock-name", str(before / settings.temp.name / ".ts.sock.9000")], settings)
    with running([], f"unix://{before / 'run' / socket_file(settings).name}") as ours:
        assert [one.pid for one in leftovers.programs(settings)] == [ours.pid]


def test_this_process_and_those_above_it_are_spared(tmp_path: Path) -> None:
    """`embedkit down` started by a program of ours, or in a shell below one, does not end itself."""
    settings = settings_in(tmp_path)
    asks = (
        "import sys; from pathlib import Path; from ops.settings import Settings; from ops.torchserve import leftovers;"
        "print([one.pid for one in leftovers.programs(Settings(var=Path(sys.argv[1])))])"
    )
    done = subprocess.run(
        ["sh", "-c", '"$0" "$@"; true', sys.executable, "-c", asks, str(tmp_path)],
        env=os.environ | {leftovers.MARK: f"unix://{socket_file(settings)}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_a_stopped_worker_of_ours_is_ended_and_a_strangers_lives(tmp_path: Path) -> None:
    """Even one that hangs (SIGSTOP) is ended; a process with another TEMP is left alone."""
    settings = settings_in(tmp_path)
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)", "--sock-name"]
    ours = subprocess.Popen([*sleeper, str(settings.temp / ".ts.sock.9000")])
    other = subprocess.Popen([*sleeper, str(tmp_path / "elsewhere" / ".ts.sock.9000")])
    try:
        time.sleep(0.2)
        ours.send_signal(19)
        found = leftovers.our_processes(settings)
        assert [process.pid for process in found] == [ours.pid]
        assert leftovers.end(found, grace_s=0.3) == [ours.pid]
        assert ours.poll() is not None
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_clearing_leaves_the_folder_empty(tmp_path: Path) -> None:
    """Files, folders and links go; what a link pointed to stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = tmp_path / "tmp"
    (folder / "models" / "abc").mkdir(parents=True)
    (folder / ".ts.sock.9000").touch()
    (folder / "link").symlink_to(outside)
    leftovers.clear_folder(folder)
    assert list(folder.iterdir()) == []
    assert (outside / "kept").exists()


@pytest.mark.needs("root")
def test_another_users_process_is_never_ours(tmp_path: Path) -> None:
    """A process of another user with our paths, such as the sudo that started us, is not ours to end."""
    settings = settings_in(tmp_path)
    with running(["--sock-name", settings.temp / ".ts.sock.9000"], f"unix://{socket_file(settings)}") as other:
        assert [one.pid for one in leftovers.everything(settings)] == [other.pid]
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            os._exit(len(leftovers.everything(settings)))
        assert os.waitpid(child, 0)[1] == 0
