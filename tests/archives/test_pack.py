"""Packing: the same bytes for the same input, whole or not there, and never done twice."""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import orjson
import pytest

from archives.archive import list_archives, read_archive, read_manifest
from archives.catalogue import ModelSpec
from archives.errors import PackError
from archives.fetch import fetch
from archives.pack import PackedArchive, archive_digest, is_current, pack
from archives.placement import Layout
from archives.plan import LockInfo
from archives.store import verification_path
from archives.worker import worker_sources
from tests.archives.conftest import LAYOUT, LOCK

ROOT = Path(__file__).parents[2]


def packed(spec: ModelSpec, store: Path) -> PackedArchive:
    return pack(spec, fetch(spec, store), LAYOUT, store, lock=LOCK)


def changed(spec: ModelSpec, **values: object) -> ModelSpec:
    return ModelSpec.model_validate({**dict(spec), **values})


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def archive(tiny: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> PackedArchive:
    return packed(tiny, tmp_path_factory.mktemp("store"))


def test_what_is_in_it(archive: PackedArchive, tiny_folder: Path) -> None:
    """Entry, worker package, settings, card, manifest and the model's served files, sub-folders kept, and no more."""
    package, sources = worker_sources(ROOT / "handlers")
    model = [
        "1_Pooling/config.json", "config.json", "config_sentence_transformers.json", "model.safetensors",
        "modules.json", "sentence_bert_config.json", "special_tokens_map.json", "tokenizer.json",
        "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip
    rest = [
        "MAR-INF/MANIFEST.json",
        "embedkit-manifest.json",
        "embedkit.json",
        "embedkit_entry.py",
        "model-config.yaml",
    ]
    with zipfile.ZipFile(archive.path) as file:
        assert file.namelist() == sorted([*rest, *sources, *(f"model/{name}" for name in model)])
        assert file.read("model/model.safetensors") == (tiny_folder / "model.safetensors").read_bytes()
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        entry = file.read("embedkit_entry.py").decode()
        server = orjson.loads(file.read("MAR-INF/MANIFEST.json"))
        config = file.read("model-config.yaml").decode()
    assert f"from {package}.bge_handler import BgeHandler\n" in entry
    assert server["model"] == {
        "modelName": "tiny",
        "handler": "embedkit_entry.py",
        "modelVersion": "1.0",
        "configFile": "model-config.yaml",
    }
    assert config.splitlines() == [
        "minWorkers: 2",
        "maxWorkers: 2",
        "batchSize: 32",
        "maxBatchDelay: 1",
        "responseTimeout: 60",
        "startupTimeout: 300",
        "jobQueueSize: 256",
        "maxRetryTimeoutInSec: 1728000",
        "deviceType: cpu",
    ]


def test_handlers_import_relatively() -> None:
    """No module of handlers/ names the package it lies in: in an archive it has another name."""
    _, sources = worker_sources(ROOT / "handlers")
    named = [
        (name, line)
        for name, content in sources.items()
        for line in content.decode().splitlines()
        if line.strip().startswith(("from handlers", "import handlers", "from archives", "from ops", "from env"))
    ]
    assert named == []


def test_archives_import_the_pure_modules_alone() -> None:
    """archives/ takes three modules of handlers/, which import nothing heavy: fetching needs no torch."""
    pure = {"card", "processor", "model_folder"}
    found = {
        module.removeprefix("handlers.")
        for path in (ROOT / "archives").glob("*.py")
        for module in re.findall(r"^from (handlers[.\w]*) import", path.read_text(), re.MULTILINE)
    }
    assert found == pure
    code = "import sys, archives.fetch, archives.pack; print(*(sys.modules.keys() & {'torch', 'transformers'}))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_manifest(archive: PackedArchive) -> None:
    """Every other file's hash and size, the versions, the lock and the training versions stand in the manifest."""
    manifest = read_manifest(archive.path)
    assert manifest == archive.manifest
    with zipfile.ZipFile(archive.path) as file:
        actual = {
            name: {"sha256": hashlib.sha256(file.read(name)).hexdigest(), "bytes": len(file.read(name))}
            for name in file.namelist()
            if name != "embedkit-manifest.json"
        }
    assert manifest["files"] == actual
    assert manifest["lock"] == {"flavour": "cpu", "sha256": "ab" * 32}
    assert manifest["trained_with"] == {"sentence_transformers": "2.2.2", "transformers": "4.30.0", "pytorch": "2.0.1"}
    assert manifest["versions"]["sentence-transformers"] == "2.2.2"
    assert manifest["source"] == {"folder": "tiny"}


def test_same_input_same_bytes(archive: PackedArchive, tiny: ModelSpec, tiny_folder: Path, tmp_path: Path) -> None:
    """Another time, store, place, file time and umask give the same bytes."""
    copy = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(tiny_folder, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1e9, 1e9))
    before = os.umask(0o077)
    try:
        again = packed(changed(tiny, source={"folder": copy}), tmp_path / "store")
    finally:
        os.umask(before)
    assert again.changed
    assert again.path.read_bytes() == archive.path.read_bytes()


def test_digest(archive: PackedArchive) -> None:
    """The digest returned and the one beside the archive are those of the file, as sha256sum checks them."""
    assert archive.sha256 == digest(archive.path)
    beside = archive.path.with_name("tiny-1.0.mar.sha256")
    assert beside.read_text() == f"{archive.sha256}  tiny-1.0.mar\n"
    beside.unlink()  # a run that ended between the archive and its digest
    assert archive_digest(archive.path) == archive.sha256
    assert beside.exists()


def test_second_pack_changes_nothing(archive: PackedArchive, tiny: ModelSpec) -> None:
    """What is already there is left alone."""
    stat = archive.path.stat()
    again = packed(tiny, archive.path.parent)
    assert (again.changed, again.sha256, again.manifest) == (False, archive.sha256, archive.manifest)
    assert archive.path.stat().st_ino == stat.st_ino


def test_is_current(archive: PackedArchive, tiny: ModelSpec, tmp_path: Path) -> None:
    """An archive is current until its entry, layout, lock or content changes."""
    store = archive.path.parent
    snapshot = fetch(tiny, store)
    assert is_current(tiny, snapshot, LAYOUT, store, lock=LOCK)
    assert not is_current(changed(tiny, batch_size=8), snapshot, LAYOUT, store, lock=LOCK)
    assert not is_current(changed(tiny, prompts={"query": "q: "}), snapshot, LAYOUT, store, lock=LOCK)
    assert not is_current(tiny, snapshot, Layout(1, 2, on_gpu=False), store, lock=LOCK)
    assert not is_current(tiny, snapshot, LAYOUT, store, lock=LockInfo("cuda12", "ab" * 32))
    assert not is_current(tiny, replace(snapshot, revision="another"), LAYOUT, store, lock=LOCK)
    assert not is_current(tiny, snapshot, LAYOUT, tmp_path, lock=LOCK)


def test_damaged_archive_is_made_anew(tiny: ModelSpec, tmp_path: Path) -> None:
    """An archive that was cut short is not taken for current."""
    first = packed(tiny, tmp_path)
    os.truncate(first.path, first.path.stat().st_size // 2)
    again = packed(tiny, tmp_path)
    assert (again.changed, digest(again.path)) == (True, first.sha256)


def test_old_verification_goes(tiny: ModelSpec, tmp_path: Path) -> None:
    """A new archive has no sidecar of the old one."""
    first = packed(tiny, tmp_path)
    verification_path(first.path).write_text("{}")
    packed(changed(tiny, batch_size=8), tmp_path)
    assert not verification_path(first.path).exists()


@pytest.mark.parametrize("damage", [lambda content: b"x" + content[1:], lambda content: content[:-1]])
def test_changed_since_fetched(tiny_folder: Path, tiny: ModelSpec, tmp_path: Path, damage: object) -> None:
    """Files that are not what was fetched make no archive, and leave the old one."""
    copy = tmp_path / "tiny"
    shutil.copytree(tiny_folder, copy)
    spec = changed(tiny, source={"folder": copy})
    first = packed(spec, tmp_path / "store")
    snapshot = fetch(spec, tmp_path / "store")
    vocabulary = copy / "vocab.txt"
    vocabulary.write_bytes(damage(vocabulary.read_bytes()))  # type: ignore[operator]
    with pytest.raises(PackError, match=r"vocab.txt .* not what was fetched"):
        pack(spec, snapshot, LAYOUT, tmp_path / "store", lock=LOCK, anew=True)
    assert digest(first.path) == first.sha256
    assert not (tmp_path / "store" / "staging" / "tiny").exists()


def test_full_disk(tiny: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full while packing is named, and nothing is left of the attempt."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("archives.pump.Pump.finish", Mock(side_effect=full))
    with pytest.raises(PackError, match=r"packing tiny: no space left on the disk of .* \(\d+ MB free\): make room"):
        packed(tiny, tmp_path)
    assert list_archives(tmp_path) == ([], [])
    assert not (tmp_path / "staging" / "tiny").exists()


def test_refused_by_the_system(tiny: ModelSpec, tmp_path: Path) -> None:
    """A file that may not grow as far as it has to (a quota, a limit) is named with the system's reason."""
    script = f"""
        import resource, signal
        from tests.archives.test_pack import *
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            packed(ModelSpec.model_validate_json({tiny.model_dump_json()!r}), Path({str(tmp_path)!r}))
        except PackError as error:
            print(error)
    """
    ran = run(script)
    assert ran.stdout.startswith("packing tiny: ")
    assert ran.stdout.endswith("File too large\n")
    assert list_archives(tmp_path) == ([], [])


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, from the project's root."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "moment",
    [
        "progress.advance",  # half of the weights written
        "archives.pack.make_skeleton",  # nothing written yet
        "archives.stored_zip.StoredZip.finish",  # all but the directory
        "archives.pack.fsync_folder",  # under its name, its digest not yet written
        "archives.pack._save_digest",
    ],
)
def test_killed(tiny: ModelSpec, archive: PackedArchive, tmp_path: Path, moment: str) -> None:
    """kill -9 at any point leaves no archive or a whole one, and the next run needs no help."""
    script = f"""
        import importlib, os, signal
        from pathlib import Path
        from archives.progress import Progress
        from tests.archives.test_pack import *

        def die(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)

        class Deadly(Progress):
            def advance(self, step, done, total):
                if {moment!r} == "progress.advance" and step == "pack" and done > total / 2:
                    die()

        if {moment!r} != "progress.advance":
            module, _, name = {moment!r}.rpartition(".")
            owner = importlib.import_module(module) if "Stored" not in module else importlib.import_module(
                "archives.stored_zip").StoredZip
            setattr(owner, name, die)
        spec, store = ModelSpec.model_validate_json({tiny.model_dump_json()!r}), Path({str(tmp_path)!r})
        pack(spec, fetch(spec, store), LAYOUT, store, lock=LOCK, progress=Deadly())
    """
    assert run(script).returncode == -signal.SIGKILL
    found, broken = list_archives(tmp_path)
    assert broken == []
    assert [digest(one.path) for one in found] in ([], [archive.sha256])
    assert packed(tiny, tmp_path).sha256 == archive.sha256
    assert not (tmp_path / "staging" / "tiny").exists()


def test_two_at_once(tiny: ModelSpec, archive: PackedArchive, tmp_path: Path) -> None:
    """Two packs of one model at the same time make one archive, and both find it right."""
    script = f"""
        from pathlib import Path
        from tests.archives.test_pack import *
        spec = ModelSpec.model_validate_json({tiny.model_dump_json()!r})
        made = packed(spec, Path({str(tmp_path)!r}))
        print(made.changed, made.sha256)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(one.communicate()[0].split() for one in both)
    assert said == [["False", archive.sha256], ["True", archive.sha256]]


def test_no_torch(tmp_path: Path) -> None:
    """Packing loads none of the libraries that compute: it starts at once."""
    script = (
        "import sys, archives.pack, archives.fetch, archives.verify, archives.archive; print('torch' in sys.modules)"
    )
    assert run(script).stdout == "False\n"


def test_names_with_commas(tiny: ModelSpec, archive: PackedArchive, tmp_path: Path) -> None:
    """A store whose path holds what the archiver splits at or takes for a pattern is no trouble."""
    store = tmp_path / "a,b [c] *"
    assert packed(tiny, store).sha256 == archive.sha256


def test_read_archive(archive: PackedArchive) -> None:
    """An archive says what it holds, with the fingerprint its answers will carry."""
    found = read_archive(archive.path)
    assert (found.model, found.version) == ("tiny", "1.0")
    assert found.fingerprint == f"tiny/1.0 rev={found.manifest['revision'][:12]} torch float32 kit=0.1.0"
