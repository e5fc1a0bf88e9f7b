"""A byte that changes in place, size and times kept: found by its hash, dropped, and had or made again."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from archives.catalogue import ModelSpec
from archives.errors import DamagedError, VerifyError
from archives.fetch import fetch, find_snapshot
from archives.pack import pack
from archives.progress import Progress
from archives.snapshot import hash_file
from archives.verify import verify
from env.hardware import Hardware
from ops.cli import app
from ops.prepare import prepare
from ops.settings import Settings
from tests.archives.conftest import LAYOUT, LOCK
from tests.archives.hub_stand_in import COMMIT, HubStandIn
from tests.archives.test_hub import REPOSITORY, spec, stand_in
from tests.handlers.conftest import needs_openvino

__all__ = ["stand_in"]


def flip(path: Path, at: int = -5) -> None:
    """Change one byte, and nothing that a look at the file would tell."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size


def gets(hub: HubStandIn) -> list[str]:
    return [path.rpartition("/")[2] for path in hub.paths("GET")]


def opened(**values: object) -> ModelSpec:
    """The hub's model with backend and dtype left open."""
    return ModelSpec.model_validate({**dict(spec()), "backend": "auto", "dtype": "auto", "device": "cpu", **values})


@pytest.fixture
def embedkit(stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    source = f'{{ hub = "{REPOSITORY}", revision = "{COMMIT}" }}'
    (tmp_path / "models.toml").write_text(f'[tiny]\nsource = {source}\nbackend = "torch"\ndtype = "float32"\n')
    for key, value in {"MODELS_FILE": tmp_path / "models.toml", "STORE": tmp_path, "VAR": tmp_path / "var"}.items():
        monkeypatch.setenv(f"EMBEDKIT_{key}", str(value))

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(words))
        return done.exit_code, done.stderr

    return run


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt", "config.json", "modules.json"])
def test_pack_has_a_damaged_file_again(
    file: str, embedkit: Callable[..., tuple[int, str]], stand_in: HubStandIn, tmp_path: Path
) -> None:
    """`embedkit pack` names the file, has it again from the hub, not the whole weights with a small one, and packs."""
    snapshot = fetch(spec(), tmp_path)
    flip(snapshot.root / file)
    stand_in.log.clear()

    status, said = embedkit("pack", "tiny")

    assert (status, file in said) == (0, True), said
    assert (snapshot.root / file).read_bytes() == stand_in.files[file]
    assert ("model.safetensors" in gets(stand_in)) == (file == "model.safetensors")
    assert verify(tmp_path / "tiny-1.0.mar").min_cosine > 0.99999


def test_fetch_after_a_pack_that_failed(
    embedkit: Callable[..., tuple[int, str]], stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a hub the pack fails; `embedkit fetch`, once there is one, has the file again, and the next packs."""
    snapshot = fetch(spec(), tmp_path)
    flip(snapshot.root / "model.safetensors")
    with monkeypatch.context() as away:
        away.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        status, said = embedkit("pack", "tiny")
        assert (status, "model.safetensors" in said, "cannot be reached" in said) == (1, True, True)

    assert embedkit("fetch", "tiny")[0] == 0
    assert (snapshot.root / "model.safetensors").read_bytes() == stand_in.files["model.safetensors"]
    assert embedkit("pack", "tiny")[0] == 0


def test_nothing_is_chosen_on_damaged_weights(stand_in: HubStandIn, tmp_path: Path) -> None:
    """Weights that are only converted, not packed, are hashed before they are tried."""
    snapshot = fetch(opened(), tmp_path)
    flip(snapshot.root / "model.safetensors")
    with pytest.raises(DamagedError, match=r"model\.safetensors is not what was fetched"):
        pack(opened(), snapshot, LAYOUT, tmp_path, lock=LOCK)
    assert not (tmp_path / "engines").exists()
    assert find_snapshot(opened(), tmp_path) is None


@needs_openvino
@pytest.mark.parametrize("file", ["openvino/model.bin", "embedkit-reference.json"])
def test_a_damaged_engine_is_made_again(file: str, stand_in: HubStandIn, tmp_path: Path) -> None:
    """What is kept of a choice is hashed when an archive is made of it, and chosen again where it is damaged."""
    asked = opened(backend="openvino", dtype="float32")  # one way to compute it, whatever is fastest just now
    snapshot = fetch(asked, tmp_path)
    made = pack(asked, snapshot, LAYOUT, tmp_path, lock=LOCK)
    (kept,) = (tmp_path / "engines" / "tiny").iterdir()
    flip(kept / file, at=-50)
    made.path.unlink()

    assert pack(asked, snapshot, LAYOUT, tmp_path, lock=LOCK).sha256 == made.sha256
    assert find_snapshot(asked, tmp_path) is not None  # nothing is wrong with it


@needs_openvino
def test_verify_tells_fetch(stand_in: HubStandIn, tmp_path: Path) -> None:
    """Damaged weights that `verify` comes upon are had again by the next fetch."""
    snapshot = fetch(opened(), tmp_path)
    made = pack(opened(), snapshot, LAYOUT, tmp_path, lock=LOCK)
    flip(snapshot.root / "model.safetensors")
    with pytest.raises(VerifyError, match=r"model\.safetensors is not the file it was made of"):
        verify(made.path, snapshot=snapshot)
    assert hash_file(fetch(opened(), tmp_path).root / "model.safetensors") == snapshot.files["model.safetensors"]


def test_a_folder_that_rots(tiny_folder: Path, tmp_path: Path) -> None:
    """A disk that errs changes no times, so the remembered hash stays: pack finds it, says what to do, and the folder
    is hashed anew.
    """
    folder = tmp_path / "folder"
    shutil.copytree(tiny_folder, folder)
    rotting = ModelSpec.model_validate({**dict(spec()), "source": {"folder": folder}})
    right = fetch(rotting, tmp_path / "store")
    cache = tmp_path / "store" / "snapshots" / "tiny" / "hashes.json"
    flip(folder / "vocab.txt")
    known = orjson.loads(cache.read_bytes())
    known[str(folder / "vocab.txt")][2] = (folder / "vocab.txt").stat().st_ctime_ns
    cache.write_bytes(orjson.dumps(known))
    assert fetch(rotting, tmp_path / "store") == right

    with pytest.raises(DamagedError, match=r"vocab\.txt is not what was fetched.*put the right one back"):
        pack(rotting, right, LAYOUT, tmp_path / "store", lock=LOCK)
    flip(folder / "vocab.txt")
    snapshot = fetch(rotting, tmp_path / "store")
    assert snapshot.files == right.files
    assert pack(rotting, snapshot, LAYOUT, tmp_path / "store", lock=LOCK).changed


def test_on_disk_before_it_has_its_name(stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that takes a final name was flushed before, and its folder after: from the hub's download to the
    archive that is served, on a file system without hard links too.
    """
    flushed: dict[int, int] = {}
    renamed: list[tuple[Path, int]] = []
    clock = iter(range(1 << 30))
    real = {name: getattr(os, name) for name in ("fsync", "replace", "rename")}

    def fsync(handle: int) -> None:
        real["fsync"](handle)
        flushed[os.fstat(handle).st_ino] = next(clock)

    def renaming(name: str) -> Callable[..., None]:
        def rename(source: str, target: str) -> None:
            real[name](source, target)
            renamed.append((Path(target), next(clock)))

        return rename

    def unable(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", renaming("replace"))
    monkeypatch.setattr(os, "rename", renaming("rename"))
    monkeypatch.setattr(os, "link", unable)

    settings = Settings(store=tmp_path, var=tmp_path / "var")
    prepare(opened(), settings, Hardware(cores=2, memory_bytes=8 << 30), Progress())

    final = [(path, at) for path, at in renamed if path.exists() and "staging" not in path.parts]
    assert {path.name for path, _ in final} >= {COMMIT, "tiny-1.0.mar", "tiny-1.0.verified.json"}
    for path, at in final:
        files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        assert files != []
        late = [each for each in files if flushed.get(each.stat().st_ino, at) >= at]
        assert late == [], f"{path}: named before its content was on disk"
        assert flushed.get(path.parent.stat().st_ino, -1) > at, f"{path}: its folder was not flushed"
    for path in settings.served.iterdir():
        assert path.stat().st_ino in flushed, path
