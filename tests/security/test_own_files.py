"""The modes of what the kit writes, whatever the umask, and what a worker is told."""

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from env import host_checks
from ops.private import keep_private, refuse_writers
from ops.settings import Settings
from ops.torchserve import confine
from ops.torchserve.launcher import clean_environment


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def careless() -> Iterator[None]:
    """A umask that lets everybody write."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("careless")
def test_new_folders_are_private(tmp_path: Path) -> None:
    """var/ is for its user alone; the store can be read, as weights may be shared, and not written."""
    settings = Settings(var=tmp_path / "var", store=tmp_path / "store")
    keep_private(settings)
    assert (mode(settings.var), mode(settings.store)) == (0o700, 0o755)


@pytest.mark.usefixtures("careless")
def test_what_others_could_do_is_taken_from_them(tmp_path: Path) -> None:
    """A var/ that all could read and write is closed; a group's reading, which somebody has chosen, stays."""
    settings = Settings(var=tmp_path / "var", store=tmp_path / "store")
    settings.var.mkdir(mode=0o777)
    settings.store.mkdir(mode=0o777)
    keep_private(settings)
    assert (mode(settings.var), mode(settings.store)) == (0o750, 0o755)


@pytest.mark.needs("root")
@pytest.mark.parametrize("mounted", [True, False])
def test_a_volume_for_a_group_is_taken_as_it_is(mounted: bool) -> None:
    """Kubernetes mounts it as root's, and writable for `fsGroup`; another user's folder is refused."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as until:
        folder = Path(name)
        folder.chmod(0o755)
        var = folder / "var"
        var.mkdir()
        if mounted:
            subprocess.run(["mount", "-t", "tmpfs", "none", var], check=True)
            until.callback(lambda: subprocess.run(["umount", var], check=True))
        os.chown(var, 0, 10001)
        var.chmod(0o2777)
        child = os.fork()
        if child == 0:
            os.setgroups([10001])
            os.setgid(10001)
            os.setuid(10001)
            try:
                keep_private(Settings(var=var, store=var / "store"))
            except PermissionError:
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if mounted else 1)


@pytest.mark.usefixtures("careless")
def test_no_umask_lets_others_write(tmp_path: Path) -> None:
    """With a umask of 0, what a command makes afterwards is writable for its user alone."""
    refuse_writers()
    (tmp_path / "archive.mar").write_bytes(b"")
    assert mode(tmp_path / "archive.mar") == 0o644


def test_a_secret_that_others_may_read_is_named(tmp_path: Path) -> None:
    """doctor names a token file with its mode's mend; one that is private, or not there, is no matter."""
    token = tmp_path / "token"
    assert host_checks.secrets([token]).status == "ok"
    token.write_text("hf_x")
    token.chmod(0o644)
    found = host_checks.secrets([token])
    assert (found.status, found.fix) == ("note", f"chmod 600 {token}")
    token.chmod(0o600)
    assert host_checks.secrets([token]).status == "ok"


def test_workers_are_told_no_hub_token(tmp_path: Path) -> None:
    """TorchServe and its workers load nothing from a hub, and have no token for it in their environment; nor Python's
    variables of whoever ran `embedkit up`."""
    told = clean_environment(
        {"HF_TOKEN": "hf_x", "HUGGING_FACE_HUB_TOKEN": "hf_x", "PYTHONWARNINGS": "error", "PATH": "/bin"},
        Settings(var=tmp_path),
    )
    assert "hf_x" not in told.values()
    assert "PYTHONWARNINGS" not in told
    assert told["PATH"] == "/bin"


def test_root_and_a_kernel_without_landlock_are_noted() -> None:
    """doctor says when it is root, and when the kernel cannot confine TorchServe."""
    assert (host_checks.user(0).status, host_checks.user(1000).status) == ("note", "ok")
    assert (host_checks.confinement(0).status, host_checks.confinement(1).status) == ("note", "ok")


@pytest.mark.needs("landlock")
def test_confined_no_link_is_made_and_files_move(tmp_path: Path) -> None:
    """A confined process and its children make no symbolic link, and move files between folders as before."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "file").touch()
    child = os.fork()
    if child == 0:  # confinement cannot be undone
        status = 1
        try:
            confine.forbid_links()
            (tmp_path / "a" / "file").rename(tmp_path / "b" / "file")
            status = os.spawnlp(os.P_WAIT, "ln", "ln", "-s", "/etc", str(tmp_path / "link"))
        finally:
            os._exit(0 if status == 1 and (tmp_path / "b" / "file").exists() else 9)
    assert os.waitpid(child, 0)[1] == 0
    assert not (tmp_path / "link").is_symlink()
