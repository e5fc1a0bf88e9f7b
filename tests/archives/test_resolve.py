"""Backend and dtype are chosen once, by trial, and what comes of it is in the archive and in the store."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from archives import resolve as resolving
from archives.archive import read_archive
from archives.candidates import Machine
from archives.catalogue import ModelSpec
from archives.errors import ArchivesError, PackError, VerifyError
from archives.fetch import fetch
from archives.pack import PackedArchive, is_current, pack
from archives.progress import Progress
from archives.verify import verify
from handlers.processor import computes_bfloat16, flags
from tests.archives.conftest import LAYOUT, LOCK
from tests.handlers.conftest import needs_openvino

ROOT = Path(__file__).parents[2]
HAS_BFLOAT16 = computes_bfloat16(flags())


def changed(spec: ModelSpec, **values: object) -> ModelSpec:
    return ModelSpec.model_validate({**dict(spec), **values})


def packed(spec: ModelSpec, store: Path, progress: Progress | None = None) -> PackedArchive:
    return pack(spec, fetch(spec, store), LAYOUT, store, lock=LOCK, progress=progress or Progress())


@pytest.fixture(scope="module")
def open_spec(tiny: ModelSpec) -> ModelSpec:
    """The tiny model with everything left open."""
    return changed(tiny, backend="auto", dtype="auto")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def archive(open_spec: ModelSpec, store: Path) -> PackedArchive:
    return packed(open_spec, store)


@needs_openvino
def test_the_fastest_that_passes_is_taken(archive: PackedArchive) -> None:
    """With its figures in manifest and card; the first that passes ends the trial."""
    engine = archive.manifest["engine"]
    card = read_archive(archive.path).card
    dtype = "bfloat16" if HAS_BFLOAT16 else "float32"

    assert (card.backend, card.dtype, card.device) == ("openvino", dtype, "cpu")
    assert (engine["backend"], engine["dtype"], engine["decision"]) == ("openvino", dtype, card.decision)
    assert [(one["backend"], one["dtype"]) for one in engine["tried"]] == [("openvino", dtype)]
    assert engine["tried"][0]["cosine"] >= 0.999
    assert f"openvino {dtype}: cosine 0.99" in card.decision
    assert f" openvino {dtype} kit=" in card.fingerprint


@needs_openvino
def test_the_weights_are_in_it_once(archive: PackedArchive, tiny_folder: Path) -> None:
    """The converted model takes the place of the model's own weights, which are named with their hash."""
    with zipfile.ZipFile(archive.path) as file:
        names = set(file.namelist())
        size = sum(info.file_size for info in file.infolist())
    weights = (tiny_folder / "model.safetensors").stat().st_size

    assert {"openvino/model.xml", "openvino/model.bin", "embedkit-reference.json", "model/tokenizer.json"} <= names
    assert "model/model.safetensors" not in names
    assert size < 1.6 * weights  # the tokenizer and the code are something, too, beside a model so small
    assert set(archive.manifest["left_out"]) == {"model/model.safetensors"}
    assert archive.manifest["left_out"]["model/model.safetensors"]["bytes"] == weights


def test_a_second_pack_tries_nothing(
    open_spec: ModelSpec, store: Path, archive: PackedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where the archive is there nor where it has to be written again, to the same bytes."""
    monkeypatch.setattr(resolving, "_try", None)

    assert is_current(open_spec, fetch(open_spec, store), LAYOUT, store, lock=LOCK)
    assert not packed(open_spec, store).changed
    archive.path.unlink()
    again = packed(open_spec, store)
    assert (again.changed, again.sha256) == (True, archive.sha256)


def test_same_input_same_bytes(open_spec: ModelSpec, archive: PackedArchive, tmp_path: Path) -> None:
    """Tried anew in another store, the same model converts to the same bytes."""
    assert packed(open_spec, tmp_path).sha256 == archive.sha256


@pytest.mark.parametrize(
    "change", [{"dtype": "float32"}, {"max_tokens": 16}, {"batch_invariant": True}, {"max_chars": 50}]
)
def test_what_is_kept_is_for_what_was_asked(
    change: dict[str, Any], open_spec: ModelSpec, store: Path, archive: PackedArchive
) -> None:
    """Another wish, or other limits, are not answered from what is kept."""
    snapshot = fetch(open_spec, store)

    assert resolving.known(open_spec, snapshot, store, LAYOUT) is not None
    assert resolving.known(changed(open_spec, **change), snapshot, store, LAYOUT) is None


def test_other_weights_versions_or_processors_are_tried_anew(
    open_spec: ModelSpec, store: Path, archive: PackedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is for these files, these packages, this code and this kind of processor."""
    snapshot = fetch(open_spec, store)
    files = {**snapshot.files, "config.json": replace(snapshot.files["config.json"], sha256="00")}
    assert resolving.known(open_spec, replace(snapshot, files=files), store, LAYOUT) is None

    for name, value in (
        ("look", lambda on_gpu: Machine(frozenset({"avx2"}), openvino=True)),
        ("installed_versions", lambda names: {"torch": "9.9"}),
        ("worker_sources", lambda: ("embedkit_worker_000000000000", {})),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(resolving, name, value)
            assert resolving.known(open_spec, snapshot, store, LAYOUT) is None
    assert resolving.known(open_spec, snapshot, store, LAYOUT) is not None


@needs_openvino
def test_verify_computes_the_reference_anew(open_spec: ModelSpec, store: Path, archive: PackedArchive) -> None:
    """With the files it was made of: plain sentence-transformers, now. Without: with what it gave at packing."""
    said: list[str] = []

    class Saying(Progress):
        def say(self, line: str) -> None:
            said.append(line)

    with_files = verify(archive.path, snapshot=fetch(open_spec, store))
    without = verify(archive.path, progress=Saying())

    assert (with_files.reference, without.reference) == ("snapshot", "stored")
    assert with_files.min_cosine >= 0.999
    assert without.min_cosine == pytest.approx(archive.manifest["engine"]["tried"][0]["cosine"], abs=1e-6)
    assert with_files.texts[:2] == without.texts[:2]
    assert "neither in it nor in the store" in said[-1]


@needs_openvino
def test_verify_takes_no_other_files(open_spec: ModelSpec, store: Path, archive: PackedArchive, tmp_path: Path) -> None:
    """A snapshot that is not the one the archive was made of is no reference."""
    snapshot = fetch(open_spec, store)
    for name in snapshot.files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((snapshot.root / name).read_bytes())
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\1")

    with pytest.raises(VerifyError, match=r"model\.safetensors is not the file it was made of"):
        verify(archive.path, snapshot=replace(snapshot, root=tmp_path))


def test_explicit_torch_tries_nothing(tiny: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """backend and dtype that are named are taken at their word: no trial, and nothing asks for OpenVINO."""
    monkeypatch.setattr(resolving, "_try", None)
    monkeypatch.setattr(resolving, "look", None)

    made = packed(changed(tiny, dtype="bfloat16"), tmp_path)

    assert made.manifest["engine"]["decision"] == "torch bfloat16: models.toml says so"
    assert made.manifest["left_out"] == {}
    assert "embedkit-reference.json" not in made.manifest["files"]


def test_torch_needs_no_openvino(tiny: ModelSpec, tmp_path: Path) -> None:
    """Packed and loaded in a process that has none."""
    script = f"""
import sys
sys.modules["openvino"] = None
from pathlib import Path
from tests.archives.test_resolve import *
from handlers.bge_handler import BgeHandler
from tests.handlers.torchserve_wire import Worker, json_body
made = packed(ModelSpec.model_validate_json({tiny.model_dump_json()!r}), Path({str(tmp_path)!r}))
with zipfile.ZipFile(made.path) as file:
    file.extractall(Path({str(tmp_path)!r}) / "unpacked")
worker = Worker(BgeHandler(), Path({str(tmp_path)!r}) / "unpacked")
print(worker.ask_one(json_body({{"input": "a"}})).status)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.returncode) == ("200\n", 0), done.stderr


def answering(*tried: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    return lambda *arguments, **named: {"tried": list(tried), "notes": []}


def test_nothing_that_passes_is_an_error(open_spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All figures and reasons are told, and no archive appears."""
    worse = {"backend": "openvino", "dtype": "float32", "cosine": 0.97}
    broken = {"backend": "torch", "dtype": "float32", "reason": "RuntimeError: no"}
    monkeypatch.setattr(resolving, "_try", answering(broken, worse))

    with pytest.raises(PackError, match=r"tiny: .*RuntimeError: no; openvino float32: cosine 0\.970000.*0\.99999"):
        packed(open_spec, tmp_path)
    assert list(tmp_path.glob("*.mar")) == []
    assert not (tmp_path / "engines").exists()


def test_a_model_that_cannot_be_tried_is_told(tiny_folder: Path, open_spec: ModelSpec, tmp_path: Path) -> None:
    """Weights that do not load end the trial with their own error."""
    snapshot = fetch(open_spec, tmp_path)
    for name in snapshot.files:
        (tmp_path / "cut" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cut" / name).write_bytes((snapshot.root / name).read_bytes()[:5000])

    with pytest.raises(PackError, match="tiny: no backend can be tried: LoadError"):
        packed(changed(open_spec, source={"folder": tmp_path / "cut"}), tmp_path)


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b'{"files": {"embedkit-reference.json": 1}}'])
def test_what_is_kept_and_damaged_is_made_again(content: bytes, tmp_path: Path) -> None:
    """A decision that cannot be read, or whose files are gone, is none."""
    (tmp_path / "decision.json").write_bytes(content)
    assert resolving._read(tmp_path) is None

    about = {"backend": "torch", "dtype": "float32", "device": "cpu", "tried": []}
    gone = {"embedkit-reference.json": {"sha256": "0", "bytes": 1, "crc32": 0}}
    (tmp_path / "decision.json").write_bytes(orjson.dumps({**about, "files": gone}))
    assert resolving._read(tmp_path) is None
    (tmp_path / "embedkit-reference.json").write_bytes(b"x")
    assert resolving._read(tmp_path) is not None


def test_the_device_of_the_trial_is_kept(open_spec: ModelSpec, tmp_path: Path) -> None:
    """What was chosen on a CPU is computed on one, wherever it is carried; a dtype that is named leaves it open."""
    spec = changed(open_spec, backend="torch", device="auto")
    tried = resolving.resolve(spec, fetch(spec, tmp_path), tmp_path, LAYOUT, progress=Progress())
    assert (tried.backend, tried.device) == ("torch", "cpu")
    named = changed(spec, dtype="float32")
    said = resolving.known(named, fetch(named, tmp_path), tmp_path, LAYOUT)
    assert said is not None
    assert (said.dtype, said.device) == ("float32", "auto")


def test_openvino_without_openvino(open_spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for and not installed: an error that says where it comes from."""
    monkeypatch.setattr(resolving, "look", lambda on_gpu: Machine(frozenset(), openvino=False))

    with pytest.raises(ArchivesError, match=r"backend = 'openvino', which is not installed here"):
        packed(changed(open_spec, backend="openvino"), tmp_path)
