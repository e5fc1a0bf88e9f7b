"""What of a model's folder gets into its archive, and what is refused or told on the way."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from archives.catalogue import ModelSpec
from archives.errors import FetchError, PackError, VerifyError
from archives.fetch import fetch, find_snapshot
from archives.pack import is_current, pack
from archives.snapshot import Snapshot, hash_file, save
from archives.verify import verify
from tests.archives.conftest import LAYOUT, LOCK
from tests.archives.test_hub import Told
from tests.handlers.conftest import BACKENDS
from tests.model_folders import make_bge_shaped, minilm_folder

NORM = "encoder.layer.3.output.LayerNorm"


def spec_of(folder: Path, **more: Any) -> ModelSpec:
    return ModelSpec.model_validate({"name": "served", "source": {"folder": folder}, "device": "cpu", **more})


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_left_out_is_in_no_archive(backend: str, tmp_path: Path) -> None:
    """A chat template and auto_map are neither packed nor missed: the archive verifies, is told of, packs to the same
    bytes elsewhere, and is not made again."""
    folder = make_bge_shaped(tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ x }}")
    path = folder / "tokenizer_config.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps(before | {"chat_template": "{{ x }}", "auto_map": {"AutoTokenizer": ["a.B", None]}}))
    spec, told = spec_of(folder, backend=backend, dtype="float32"), Told()
    made = [
        pack(spec, fetch(spec, store), LAYOUT, store, lock=LOCK, progress=told)
        for store in (tmp_path / "one", tmp_path / "two")
    ]
    assert len({each.sha256 for each in made}) == 1
    snapshot = fetch(spec, tmp_path / "one")
    assert is_current(spec, snapshot, LAYOUT, tmp_path / "one", lock=LOCK)
    assert not pack(spec, snapshot, LAYOUT, tmp_path / "one", lock=LOCK).changed
    with zipfile.ZipFile(made[0].path) as file:
        assert json.loads(file.read("model/tokenizer_config.json")) == before
        assert not [name for name in file.namelist() if "jinja" in name]
    assert "tokenizer_config.json: chat_template, tokenizer_config.json: auto_map" in "\n".join(told.lines)
    found = verify(made[0].path, snapshot=snapshot)
    assert found.reference == ("snapshot" if backend == "openvino" else "archive")


def test_a_whole_folder_is_packed_as_it_is(tmp_path: Path) -> None:
    """minilm's files are in its archive byte for byte."""
    spec = spec_of(minilm_folder(), backend="torch", dtype="float32")
    made = pack(spec, fetch(spec, tmp_path), LAYOUT, tmp_path, lock=LOCK)
    with zipfile.ZipFile(made.path) as file:
        packed = {name.removeprefix("model/"): file.read(name) for name in file.namelist() if "model/" in name}
    there = {path.relative_to(minilm_folder()).as_posix() for path in minilm_folder().rglob("*") if path.is_file()}
    assert there - packed.keys() == {".gitattributes", "README.md", "data_config.json"}
    assert packed == {name: (minilm_folder() / name).read_bytes() for name in packed}


def test_a_snapshot_of_an_older_kit_is_looked_at_again(tmp_path: Path) -> None:
    """What was fetched before the lists were is served by them: a file too many is not, a foreign module is refused."""
    commit = "c" * 40
    spec = ModelSpec.model_validate({"name": "served", "source": {"hub": "some/model", "revision": commit}})
    kept = tmp_path / "snapshots" / "served" / commit
    kept.mkdir(parents=True)
    root = make_bge_shaped(kept / "model")
    (root / "generation_config.json").write_text("{}")

    def fetched() -> set[str]:
        files = {path.relative_to(root).as_posix(): hash_file(path) for path in root.rglob("*") if path.is_file()}
        save(Snapshot("served", {"hub": "some/model", "revision": commit}, commit, root, files), kept)
        return set(files)

    names = fetched()
    found = find_snapshot(spec, tmp_path)
    assert found is not None
    assert names - found.files.keys() == {"generation_config.json"}
    config = root / "config.json"
    config.write_text(config.read_text().replace('"model_type": "bert"', '"model_type": "tree"'))
    fetched()
    for look in (find_snapshot, fetch):
        with pytest.raises(FetchError, match=r"config\.json: model_type 'tree'"):
            look(spec, tmp_path)


@pytest.fixture(scope="module")
def without_norm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """minilm without one LayerNorm."""
    folder = Path(shutil.copytree(minilm_folder(), tmp_path_factory.mktemp("damaged") / "model"))
    weights = load_file(folder / "model.safetensors")
    del weights[f"{NORM}.weight"], weights[f"{NORM}.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_missing_weights_are_refused_by_the_trial(without_norm: Path, tmp_path: Path) -> None:
    """Where backend and dtype are chosen, a model without one LayerNorm is not packed: the weights are named."""
    spec = spec_of(without_norm)
    with pytest.raises(
        PackError, match=rf"LoadError: model/model\.safetensors lacks {NORM}\.bias, {NORM}\.weight, .* again"
    ):
        pack(spec, fetch(spec, tmp_path), LAYOUT, tmp_path, lock=LOCK)


def test_missing_weights_are_refused_by_verify(without_norm: Path, tmp_path: Path) -> None:
    """Where nothing was tried, verify refuses the same."""
    spec = spec_of(without_norm, backend="torch", dtype="float32")
    made = pack(spec, fetch(spec, tmp_path), LAYOUT, tmp_path, lock=LOCK)
    with pytest.raises(VerifyError, match=rf"does not serve.*lacks {NORM}\.bias, {NORM}\.weight"):
        verify(made.path)


def test_pack_and_verify_tell_of_tokens_without_embeddings(tmp_path: Path) -> None:
    """The first such token, its id and the rows are told; the model is packed and verified."""
    folder = make_bge_shaped(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["ACME-42", "<ticket>"])
    tokenizer.save_pretrained(folder)
    spec, packing, verifying = spec_of(folder), Told(), Told()
    store = tmp_path / "store"
    made = pack(spec, fetch(spec, store), LAYOUT, store, lock=LOCK, progress=packing)
    verify(made.path, snapshot=fetch(spec, store), progress=verifying)
    for said in (packing, verifying):
        assert ["'ACME-42' (id 21128) and 1 more" in line for line in said.lines].count(True) == 1
        assert str(tmp_path) not in "".join(line for line in said.lines if "ACME" in line)
