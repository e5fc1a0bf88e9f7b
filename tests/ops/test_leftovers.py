"""Which processes are ours to end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.settings import Settings
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
    exporter = ["python", "-m", "ops.exporter"]
    assert leftovers.is_program([*exporter, str(settings.state / "settings.json")], settings)
    assert not leftovers.is_program([*exporter, "/elsewhere/settings.json"], settings)
    assert not leftovers.is_program(["nano", str(settings.state / "settings.json")], settings)
    before = ["python", "-m", "ops.systemd.before", str(settings.state / "settings.json")]
    assert not leftovers.is_program(before, settings)


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
    words = [sys.executable, "-c", "import time; time.sleep(60)", "ops.exporter", str(settings.state / "settings.json")]
    with subprocess.Popen(words) as other:
        try:
            assert [one.pid for one in leftovers.programs(settings)] == [other.pid]
            child = os.fork()
            if child == 0:
                os.setuid(65534)
                os._exit(len(leftovers.programs(settings)))
            assert os.waitpid(child, 0)[1] == 0
        finally:
            other.kill()
