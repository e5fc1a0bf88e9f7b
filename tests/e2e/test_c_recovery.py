"""Faults: each test breaks one thing and ends with the vector that came before. Times are printed with `-rP`."""

import os
import shutil
import signal
import socket
import time

import orjson
import psutil
import pytest
import requests

from archives.snapshot import hash_file
from env.ports import port_is_free
from ops.desired import desired_file, read_models
from tests.e2e.stack import Stack, free_ports
from tests.model_folders import make_bge_shaped

pytestmark = pytest.mark.e2e

# TorchServe with minilm starts in some 9 s on two cores; a restart has that and the reaping of what was left.
RESTART_S = 45.0


def report(what: str, seconds: float) -> None:
    print(f"recovery: {what}: {seconds:.1f} s")


def no_orphans(stack: Stack) -> bool:
    """Every worker of ours is the child of the one server."""
    server = stack.jvm_pid()
    workers = [one for one in stack.processes() if "--sock-name" in " ".join(one.cmdline())]
    return all(one.ppid() == server for one in workers)


def test_jvm_kill_9(stack: Stack) -> None:
    """The JVM killed outright: it serves again by itself, as another process, and no worker is orphaned."""
    expected, before, workers = stack.embed(), stack.jvm_pid(), stack.full_strength()
    os.kill(before, signal.SIGKILL)
    report("JVM kill -9", stack.recovered(expected, RESTART_S))
    assert stack.jvm_pid() != before
    assert not workers & {one.pid for one in stack.processes()}
    assert no_orphans(stack)


def test_torchserve_stop(stack: Stack) -> None:
    """`torchserve --stop`, which sends the JVM a SIGTERM, finds it by its pid file, and supervisord brings it back."""
    expected, before = stack.embed(), stack.jvm_pid()
    done = stack.run("torchserve", "--stop")
    assert "TorchServe has stopped" in done.stdout
    stack.eventually(lambda: not psutil.pid_exists(before))
    report("torchserve --stop (SIGTERM)", stack.recovered(expected, RESTART_S))
    assert stack.jvm_pid() != before
    assert no_orphans(stack)


def test_worker_kill_9(stack: Stack) -> None:
    """One worker killed: the other goes on answering, and the full strength returns under the same JVM."""
    expected, server, before = stack.embed(), stack.jvm_pid(), stack.full_strength()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    started = time.monotonic()
    stack.recovered(expected, 10)
    stack.eventually(lambda: len(stack.worker_pids() - {victim}) == len(before), 30)
    report("worker kill -9, full strength", time.monotonic() - started)
    assert stack.jvm_pid() == server
    stack.recovered(expected, 5)


def test_every_worker_kill_9(stack: Stack) -> None:
    """All workers killed at once: they are replaced and the same vector comes back."""
    expected = stack.embed()
    for pid in stack.full_strength():
        os.kill(pid, signal.SIGKILL)
    report("all workers kill -9", stack.recovered(expected, RESTART_S))


def test_supervisorctl_stop_stays_stopped(stack: Stack) -> None:
    """An operator's stop is respected until an operator's start; status says what to do, and exits 1."""
    expected = stack.embed()
    assert "torchserve: stopped" in stack.supervisorctl("stop", "torchserve").stdout
    time.sleep(4)
    assert "STOPPED" in stack.supervisorctl("status", "torchserve", check=False).stdout
    assert [one for one in stack.processes() if "java" in one.name()] == []
    found = stack.embedkit("status", check=False)
    assert found.returncode == 1
    assert "supervisorctl start torchserve" in found.stderr
    assert "torchserve: started" in stack.supervisorctl("start", "torchserve").stdout
    report("supervisorctl start", stack.recovered(expected, RESTART_S))
    stack.eventually(lambda: "RUNNING" in stack.supervisorctl("status", "torchserve").stdout)


def test_supervisorctl_restart(stack: Stack) -> None:
    """`supervisorctl restart torchserve` gives another JVM and the same vector."""
    expected, before = stack.embed(), stack.jvm_pid()
    stack.supervisorctl("restart", "torchserve")
    report("supervisorctl restart", stack.recovered(expected, RESTART_S))
    assert stack.jvm_pid() != before


def test_supervisord_kill_9_then_up(stack: Stack) -> None:
    """supervisord killed outright and `up` run by hand: one server, no orphan, the same vector."""
    expected = stack.embed()
    os.kill(int((stack.settings.run / "supervisord.pid").read_text()), signal.SIGKILL)
    started = time.monotonic()
    stack.embedkit("up")
    report("supervisord kill -9, then up", time.monotonic() - started)
    stack.recovered(expected, 5)
    assert stack.jvm_pid()
    assert no_orphans(stack)


def test_a_model_added_later_survives_a_crash(stack: Stack) -> None:
    """`up tiny_bge` adds a model without touching the workers of the others; after a kill -9 both come back."""
    expected, workers = stack.embed(), stack.full_strength()
    stack.embedkit("up", "tiny_bge")
    assert stack.worker_pids() == workers
    tiny = stack.embed(model="tiny_bge")
    os.kill(stack.jvm_pid(), signal.SIGKILL)
    stack.recovered(expected, RESTART_S)
    stack.recovered(tiny, RESTART_S, "tiny_bge")
    served = {one["model"] for one in stack.status()["models"]}
    assert {"minilm", "tiny_bge"} <= served


def test_a_missing_archive_does_not_stop_the_others(stack: Stack) -> None:
    """With one archive gone at a restart the other models serve, status and doctor name the one that does not, and the
    doctor's command brings it back."""
    stack.embedkit("up", "tiny_bge")
    expected, tiny = stack.embed(), stack.embed(model="tiny_bge")
    name = read_models(desired_file(stack.settings))["tiny_bge"].archive
    (stack.settings.served / name).unlink()
    os.kill(stack.jvm_pid(), signal.SIGKILL)
    stack.recovered(expected, RESTART_S)
    found = stack.status()
    assert not found["ok"]
    assert {one["model"]: one["ok"] for one in found["models"]}["tiny_bge"] is False
    assert mended(stack, "archive tiny_bge", name)
    stack.recovered(tiny, 5, "tiny_bge")


def mended(stack: Stack, check: str, named: str) -> bool:
    """Whether the doctor finds one fault, and its command is enough."""
    (found,) = failures(stack)
    assert (found["check"], named in found["detail"]) == (check, True), found
    stack.run("bash", "-c", found["fix"])
    return failures(stack) == []


def failures(stack: Stack) -> list[dict[str, str]]:
    findings = orjson.loads(stack.embedkit("doctor", "--json", check=False).stdout)["findings"]
    return [one for one in findings if one["status"] == "fail"]


def test_what_is_damaged_under_a_running_service_is_mended(stack: Stack) -> None:
    """An archive changed in place, with which the store's own copy changes, and the settings in force: the doctor finds
    each, its command mends it, and the service answers as before."""
    stack.embedkit("up", "tiny_bge")
    expected, tiny = stack.embed(), stack.embed(model="tiny_bge")
    archive = stack.settings.served / read_models(desired_file(stack.settings))["tiny_bge"].archive
    with archive.open("r+b") as file:
        file.seek(-100_000, os.SEEK_END)
        file.write(os.urandom(1000))
    assert mended(stack, "archive tiny_bge", "not the file that was verified")
    stack.recovered(tiny, 5, "tiny_bge")
    stack.settings.file.write_text("{")
    assert mended(stack, "settings", str(stack.settings.file))
    stack.recovered(expected, 5)


def test_a_model_taken_out_stays_out(stack: Stack) -> None:
    """`down tiny_bge` removes one model from the running service and the desired state; the others go on."""
    stack.embedkit("up", "tiny_bge")
    expected, workers = stack.embed(), stack.full_strength()
    assert "minilm" in stack.embedkit("down", "tiny_bge").stdout
    assert stack.post({"input": "x"}, "tiny_bge").status_code == 404
    assert stack.worker_pids() == workers
    assert "tiny_bge" not in read_models(desired_file(stack.settings))
    assert "is not served" in stack.embedkit("down", "tiny_bge", check=False).stderr
    stack.recovered(expected, 5)


@pytest.mark.slow
def test_a_flag_of_up_is_known_to_the_other_commands(stack: Stack) -> None:
    """After `up --inference-port`, status and embed ask at that port without being told; `up` again moves it back."""
    other = free_ports(1)[0]
    stack.embedkit("up", "--inference-port", str(other))
    assert stack.status()["ports"]["inference"] == other
    assert "384 numbers" in stack.embedkit("embed", "a cat").stdout
    stack.embedkit("up")
    assert stack.status()["ports"]["inference"] == stack.settings.inference_port


def test_a_taken_port_is_told_before_anything_starts(stack: Stack) -> None:
    """With the inference port taken, `up` refuses with port and mend, and starts nothing."""
    expected = stack.embed()
    stack.embedkit("down")
    with socket.create_server(("127.0.0.1", stack.settings.inference_port)):
        refused = stack.embedkit("up", check=False)
    assert refused.returncode == 1
    assert f"inference {stack.settings.inference_port}" in refused.stderr
    assert "EMBEDKIT_INFERENCE_PORT=" in refused.stderr
    assert stack.processes() == []
    stack.embedkit("up")
    stack.recovered(expected, 5)


def test_what_is_packed_later_is_not_served_unverified(stack: Stack) -> None:
    """A model packed anew from other weights, and not verified, is not what a crash brings back."""
    stack.embedkit("up", "tiny_bge")
    tiny, one = stack.embed(model="tiny_bge"), read_models(desired_file(stack.settings))["tiny_bge"]
    assert hash_file(stack.settings.served / one.archive).sha256 == one.sha256
    folder = stack.folder / "tiny_bge"
    folder.rename(stack.folder / "aside")
    try:
        make_bge_shaped(folder, layers=2, hidden=64, seed=9)
        stack.embedkit("pack", "tiny_bge")
        os.kill(stack.jvm_pid(), signal.SIGKILL)
        stack.recovered(tiny, RESTART_S, "tiny_bge")
    finally:
        shutil.rmtree(folder)
        (stack.folder / "aside").rename(folder)
    stack.embedkit("up")
    stack.recovered(tiny, 5, "tiny_bge")


def test_a_model_that_torchserve_lost_comes_back(stack: Stack) -> None:
    """A model removed behind the kit's back is served again by `up`."""
    stack.embedkit("up", "tiny_bge")
    tiny = stack.embed(model="tiny_bge")
    assert requests.delete(stack.settings.management_url("/models/tiny_bge/1.0"), timeout=30).status_code == 200
    stack.embedkit("up")
    stack.recovered(tiny, 5, "tiny_bge")


def test_a_wrong_host_or_taken_port_leaves_the_service_alone(stack: Stack) -> None:
    """While serving, `up` with an address that cannot be had is refused, and the running server is not touched."""
    expected, server = stack.embed(), stack.jvm_pid()
    assert "is no address of this machine" in stack.embedkit("up", "--host", "nonsense", check=False).stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = stack.embedkit("up", "--inference-port", str(taken.getsockname()[1]), check=False)
    assert f"is taken by {psutil.Process().name()} (pid {os.getpid()})" in refused.stderr
    assert stack.jvm_pid() == server
    stack.recovered(expected, 5)


def test_another_folders_state_is_not_obeyed(stack: Stack) -> None:
    """A copied var/ does not control the service that it was copied from, and nothing but the kit's own is removed."""
    copied = stack.folder / "copied"
    shutil.copytree(stack.settings.state, copied / "state")
    (copied / "tmp").mkdir()
    (copied / "tmp" / "precious").touch()
    server = stack.jvm_pid()
    stack.environ["EMBEDKIT_VAR"] = str(copied)
    try:
        refused = stack.embedkit("down", check=False)
    finally:
        stack.environ["EMBEDKIT_VAR"] = str(stack.settings.var)
    assert "was written for" in refused.stderr
    assert (copied / "tmp" / "precious").exists()
    assert stack.jvm_pid() == server


def test_down_leaves_nothing(stack: Stack) -> None:
    """After `down`: no process, no listener, no pid file, an empty TEMP; a second `down` and a new `up` work."""
    expected = stack.embed()
    stack.embedkit("down")
    assert stack.processes() == []
    assert all(port_is_free("127.0.0.1", port) for port in stack.settings.ports.values())
    assert list(stack.settings.temp.iterdir()) == []
    assert list((stack.folder / "t").iterdir()) == []
    assert "nothing was running" in stack.embedkit("down").stdout
    refused = stack.supervisorctl("status", check=False)
    assert "make up" in refused.stderr
    stack.embedkit("up")
    stack.recovered(expected, 5)
