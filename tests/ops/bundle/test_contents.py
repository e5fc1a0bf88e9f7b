"""What goes into a bundle, from the real store and checkout."""

from pathlib import Path

import pytest

from archives.catalogue import ModelSpec, find, load_catalogue
from env.jdk import packaged_java
from ops.bundle import contents
from ops.bundle.install import BundleError
from ops.settings import ROOT
from tests.model_folders import make_bge_shaped


def spec(folder: Path, name: str, source: str) -> ModelSpec:
    catalogue = folder / "models.toml"
    catalogue.write_text(f'[{name}]\nsource = {source}\nhandler = "bge"\nversion = "1.0"\n')
    return find(load_catalogue(catalogue), name)


def stored(store: Path, name: str) -> None:
    """An archive with what belongs beside it, as pack and verify leave them."""
    store.mkdir(exist_ok=True)
    for file in (f"{name}-1.0.mar", f"{name}-1.0.mar.sha256", f"{name}-1.0.verified.json"):
        (store / file).write_text(file)


def test_the_checkout_is_what_git_tracks() -> None:
    """Sources and locks are in it; environment, state and store are not."""
    files = contents.checkout(ROOT)
    assert {"Makefile", "env/locks/cpu.txt", "ops/bundle/install.py"} <= set(files)
    assert not any(name.startswith((".venv/", "var/", "archives/store/", ".git/")) for name in files)


def test_a_jdk_comes_with_its_links_followed(tmp_path: Path) -> None:
    """Every file of a JDK 11 is listed below env/jdk; what is no JDK 11 is refused."""
    java = packaged_java()
    assert java is not None
    files = contents.jdk(java.parent.parent)
    assert files["env/jdk/bin/java"] == java
    assert "env/jdk/lib/server/libjvm.so" in files
    with pytest.raises(BundleError, match="cannot be run; name the folder of a JDK 11"):
        contents.jdk(tmp_path)


def test_the_pins_say_which_jdk_a_bundle_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another JDK pinned, that one is taken and a JDK 11 is refused."""
    java = packaged_java()
    assert java is not None
    monkeypatch.setattr("ops.bundle.contents.load_pins", lambda: {"jdk": {"wanted": 17}})
    with pytest.raises(BundleError, match=r"is Java 11\.0\.13\S*; name the folder of a JDK 17"):
        contents.jdk(java.parent.parent)
    monkeypatch.setattr("ops.bundle.contents.java_version", lambda _: "17.0.15")
    assert "env/jdk/bin/java" in contents.jdk(java.parent.parent)


def test_a_model_that_is_not_ready_is_named(tmp_path: Path) -> None:
    """Without an archive, or with one that was not verified, the commands to run are said."""
    one = spec(tmp_path, "mine", '{ hub = "some/model", revision = "main" }')
    with pytest.raises(BundleError, match=r"mine-1\.0\.mar is not there: `embedkit pack mine`"):
        contents.models([one], tmp_path / "store")
    stored(tmp_path / "store", "mine")
    with pytest.raises(BundleError, match="run `embedkit fetch mine`"):
        contents.models([one], tmp_path / "store")


def test_a_folder_has_to_be_taken_along_by_hand(tmp_path: Path) -> None:
    """A model from a folder of this machine would not be found there, so it is refused."""
    make_bge_shaped(tmp_path / "tiny", layers=1, hidden=64)
    stored(tmp_path / "store", "tiny")
    with pytest.raises(BundleError, match="take that folder along by itself"):
        contents.models([spec(tmp_path, "tiny", '{ folder = "tiny" }')], tmp_path / "store")


def test_a_hub_model_brings_its_snapshot(tmp_path: Path) -> None:
    """Archive, sidecars, the choice of engine, and the one snapshot that models.toml names, with its record."""
    from archives.snapshot import HashCache, Snapshot, save

    commit = "b" * 40
    store = tmp_path / "store"
    one = spec(tmp_path, "mine", f'{{ hub = "some/model", revision = "{commit}" }}')
    stored(store, "mine")
    (store / "engines" / "mine" / "x").mkdir(parents=True)
    (store / "engines" / "mine" / "x" / "decision.json").write_text("{}")
    root = store / "snapshots" / "mine" / commit / "model"
    make_bge_shaped(root, layers=1, hidden=64)
    cache = HashCache(tmp_path / "h.json")
    found = (path for path in root.rglob("*") if path.is_file())
    files = {path.relative_to(root).as_posix(): cache.get(path, lambda _: None) for path in found}
    save(Snapshot("mine", one.source.describe(), commit, root, files), root.parent)
    (store / "snapshots" / "mine" / ("c" * 40) / "model").mkdir(parents=True)
    listed = contents.models([one], store)
    assert listed["archives/store/mine-1.0.mar"] == store / "mine-1.0.mar"
    assert "archives/store/engines/mine/x/decision.json" in listed
    assert f"archives/store/snapshots/mine/{commit}/snapshot.json" in listed
    assert f"archives/store/snapshots/mine/{commit}/model/config.json" in listed
    assert not any("c" * 40 in name for name in listed)
