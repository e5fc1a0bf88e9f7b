"""Archives in service, in a store that several deployments share."""

import errno
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from archives.catalogue import ModelSpec
from archives.pack import PackedArchive
from archives.progress import SILENT
from archives.snapshot import Snapshot, hash_file
from archives.store import archive_path, verification_path
from archives.verify import Verification, read_verification
from env.hardware import Hardware
from env.jdk import Jdk
from ops import prepare as preparing
from ops import store_owners
from ops.deploy.versions import closed
from ops.desired import Served, commit, desired_file, forget, previous_file, write_models
from ops.served import appearing, prune, publish, published
from ops.settings import Settings
from ops.store_owners import claim, examine_owners, identity, owners
from ops.torchserve import launcher
from ops.torchserve.launcher import servable


@pytest.fixture
def two(tmp_path: Path) -> tuple[Settings, Settings]:
    """Two deployments with one store."""
    a, b = (Settings(var=tmp_path / name, store=tmp_path / "store") for name in "ab")
    a.store.mkdir()
    return a, b


def packed(settings: Settings, model: str, content: str) -> PackedArchive:
    """An archive in the store as far as it is put into service, in place of the one there."""
    path = archive_path(settings.store, model, "1.0")
    path.unlink(missing_ok=True)
    path.write_text(content)
    digest = hashlib.sha256(content.encode()).hexdigest()
    seen = {"archive_sha256": digest, "verified_at": "", "fingerprint": "", "dimensions": 1, "min_cosine": 1.0}
    verification_path(path).write_bytes(orjson.dumps({**seen, "texts": ["a"], "vectors": [[1.0]]}))
    return PackedArchive(path, digest, {}, changed=True)


def serve(settings: Settings, model: str, content: str) -> Served:
    """As a whole `up` or `deploy` does."""
    one = publish(settings, model, "1.0", packed(settings, model, content))
    commit(settings, one)
    prune(settings)
    return one


def restarts(settings: Settings, *wanted: Served) -> bool:
    """Whether the next start serves these, whole and verified."""
    models = {one.model: one for one in wanted}
    return servable(settings, models) == models and all(published(settings, one)[1] for one in wanted)


def archives(settings: Settings) -> set[str]:
    return {path.name for path in settings.served.glob("*.mar")}


def test_one_deployment_leaves_the_others_archives(two: tuple[Settings, Settings]) -> None:
    """Whatever B brings up, deploys and takes out, A restarts with what it serves and can roll back."""
    a, b = two
    before, now = serve(a, "m", "a1"), serve(a, "m", "a2")
    for model, content in (("m", "b1"), ("other", "b2"), ("other", "b3"), ("other", "b4")):
        serve(b, model, content)
        assert restarts(a, before, now)
    write_models(desired_file(b), {})
    for model in ("m", "other"):
        forget(b, model)
    prune(b)
    assert archives(b) == {before.archive, now.archive}


def test_what_both_serve_goes_with_the_last(two: tuple[Settings, Settings]) -> None:
    """The same archive in both is one file, and stays until neither needs it."""
    a, b = two
    shared = serve(a, "m", "1")
    assert serve(b, "m", "1") == shared
    serve(a, "m", "a2")
    serve(a, "m", "a3")
    assert restarts(b, shared)
    serve(b, "m", "b2")
    assert shared.archive in archives(b)  # to go back to
    serve(b, "m", "b3")
    assert shared.archive not in archives(b)


def test_a_served_archive_has_the_time_at_which_it_was_made(
    two: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the model's `created`, on a file system without links too."""

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    archive = packed(two[0], "m", "1")
    os.utime(archive.path, (1_700_000_000, 1_700_000_000))
    served = publish(two[0], "m", "1.0", archive)
    assert (two[0].served / served.archive).stat().st_mtime == 1_700_000_000


@pytest.mark.parametrize("step", ["exists", "hardlink_to", "replace"])
def test_an_archive_on_its_way_into_service_is_not_removed(
    step: str, two: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gives up the archive that B is putting there and has not written down: before each step and at the end."""
    a, b = two
    serve(a, "m", "1")
    again = packed(b, "m", "1")
    given_up = threading.Event()
    real = getattr(Path, step)

    def interrupted(path: Path, *arguments: Any) -> Any:
        if path.parent == b.served and not given_up.is_set():
            given_up.set()
            write_models(desired_file(a), {})
            prune(a)
        return real(path, *arguments)

    monkeypatch.setattr(Path, step, interrupted)
    one = publish(b, "m", "1.0", again)
    monkeypatch.undo()
    prune(a)
    assert given_up.is_set()
    assert restarts(b, one)


def test_what_is_made_for_a_change_is_the_deployments_own(two: tuple[Settings, Settings]) -> None:
    """Two that close one model do not take each other's file; each goes with its deployment's next change."""
    a, b = two
    of_a, of_b = closed(a, "m"), closed(b, "m")
    prune(a)
    assert archives(b) == {of_b} != {of_a}
    prune(b)
    assert archives(b) == set()


def test_what_a_killed_run_left_goes(two: tuple[Settings, Settings]) -> None:
    """An archive that was being written is removed by its own deployment's next change."""
    a, b = two
    if (child := os.fork()) == 0:
        with appearing(a, "m.mar") as beside:
            beside.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = a.served.iterdir()
    prune(b)
    assert left.exists()
    prune(a)
    assert not left.exists()


def legacy(settings: Settings, one: Served) -> Served:
    """Served by a version of the kit that kept no record of it."""
    settings.served.mkdir(exist_ok=True)
    (settings.served / one.archive).write_text("old")
    seen = verification_path(packed(settings, one.model, "old").path)
    shutil.copyfile(seen, verification_path(settings.served / one.archive))
    commit(settings, one)
    return one


OLD_SHA = hashlib.sha256(b"old").hexdigest()


def test_archives_from_before_there_were_records(two: tuple[Settings, Settings]) -> None:
    """They serve on over a restart, are nobody else's to remove, and go with the changes of their own deployment."""
    a, b = two
    old = legacy(a, Served("m", "1.0", "m-1.0-old.mar", OLD_SHA))
    stray = a.served / "stray-1.0-0.mar"
    stray.touch()
    serve(b, "m", "b1")
    assert restarts(a, old)
    claim(a)  # a start
    serve(b, "m", "b2")
    serve(a, "m", "a1")
    assert restarts(a, old)  # to go back to
    serve(a, "m", "a2")
    assert old.archive not in archives(a)
    assert stray.exists()


def test_a_start_is_not_kept_by_its_claim(
    two: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a sandbox the store is read-only, and nothing is said where all is claimed; what cannot be claimed is told."""
    a, _ = two
    serve(a, "m", "1")

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(store_owners, "held", read_only)
    monkeypatch.setattr(launcher, "find_jdk", lambda _: Jdk(Path("java"), 11, "11", "here"))
    launcher.prepare(a)
    assert "does not learn" not in capsys.readouterr().out
    previous_file(a).write_text("{")
    launcher.prepare(a)
    said = capsys.readouterr().out
    assert "does not learn which archives are needed here" in said
    assert "serving m" in said


def test_a_copied_or_recreated_var_is_another_deployment(two: tuple[Settings, Settings], tmp_path: Path) -> None:
    """The same path in another container, with nothing of the first in it, and a copy elsewhere, own nothing of it."""
    a, _ = two
    one = serve(a, "m", "1")
    first = identity(a)
    shutil.copytree(a.var, tmp_path / "copied")
    copy = Settings(var=tmp_path / "copied", store=a.store)
    a.var.rename(tmp_path / "elsewhere")
    assert len({first, identity(a), identity(copy)}) == 3
    write_models(desired_file(copy), {})
    prune(a)
    prune(copy)
    assert archives(a) == {one.archive}


def test_the_doctor_names_a_deployment_that_is_gone(two: tuple[Settings, Settings]) -> None:
    """With the command that removes what it alone has kept; one that is there is only named."""
    a, b = two
    shared = serve(a, "m", "1")
    serve(b, "other", "2")
    serve(b, "m", "1")
    (there,) = examine_owners(a)
    assert (there.status, str(b.var) in there.detail, there.fix) == ("ok", True, "")
    shutil.rmtree(b.var)
    (gone,) = examine_owners(a)
    assert (gone.status, str(b.var) in gone.detail) == ("note", True)
    subprocess.run(shlex.split(gone.fix), check=True)
    assert archives(a) == {shared.archive}
    assert list(examine_owners(a)) == []
    assert restarts(a, shared)


def test_nothing_is_said_to_be_gone_that_may_be_in_a_container(
    two: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--network host` it has this host's name, and its var/ is not to be seen from here."""
    a, b = two
    identity(a)
    with monkeypatch.context() as inside:
        inside.setattr(store_owners, "container", lambda: "pid:[1]")
        serve(b, "m", "1")
    shutil.rmtree(b.var)
    (there,) = examine_owners(a)
    assert (there.status, there.fix) == ("ok", "")


def test_a_damaged_record_removes_nothing(two: tuple[Settings, Settings]) -> None:
    """Nobody knows what that deployment needs: the doctor says so, and its own next start mends it."""
    a, b = two
    one = serve(b, "m", "b1")
    (record,) = a.store.glob("owners/*.json")
    record.write_bytes(b"{")
    for content in "123":
        serve(a, "m", content)
    assert len(archives(a)) == 4
    (told,) = examine_owners(a)
    assert (told.status, str(record) in told.detail) == ("note", True)
    claim(b)
    prune(a)
    assert len(archives(a)) == 3
    assert restarts(b, one)
    assert {len(owner.archives) for owner in owners(a)} == {1, 2}


def test_a_pack_of_another_deployment_waits_for_a_verified_archive(
    two: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """B packs the same version from other settings while A verifies: each puts into service what it has packed."""
    made: dict[str, Served] = {}
    others: list[threading.Thread] = []

    def pack(spec: ModelSpec, settings: Settings, *_: object) -> tuple[Snapshot, PackedArchive]:
        archive = packed(settings, spec.name, settings.var.name)
        verification_path(archive.path).unlink()
        manifest = {"engine": {"backend": "torch", "dtype": "float32", "device": "cpu"}}
        return Snapshot("m", {}, "", settings.store, {}), PackedArchive(archive.path, archive.sha256, manifest, True)

    def verify(path: Path, **_: object) -> Verification:
        if not others:
            others.append(threading.Thread(target=run, args=(two[1],)))
            others[0].start()
            others[0].join(2)  # it does not end where it waits
        packed(two[0], "m", path.read_text())
        found = read_verification(path)
        assert found is not None
        return found

    def run(settings: Settings) -> None:
        spec = ModelSpec.model_validate({"name": "m", "source": {"folder": "m"}})
        made[settings.var.name] = preparing.prepare(spec, settings, Hardware(2, 1 << 33), SILENT).served

    monkeypatch.setattr(preparing, "_pack", pack)
    monkeypatch.setattr(preparing, "verify", verify)
    monkeypatch.setattr(preparing, "need", lambda *_: None)
    run(two[0])
    others[0].join(10)
    assert set(made) == {"a", "b"}
    for settings in two:
        one = made[settings.var.name]
        assert hash_file(settings.served / one.archive).sha256 == one.sha256
