"""What the archive tests share: a tiny model of the bge shape, its entry in a catalogue, a lock and a layout."""

from pathlib import Path

import pytest

from archives.catalogue import ModelSpec
from archives.placement import Layout
from archives.plan import LockInfo

LOCK = LockInfo("cpu", "ab" * 32)
LAYOUT = Layout(workers=2, threads=1, on_gpu=False)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder of some MB, with files beside it that nobody serves."""
    from tests.model_folders import make_bge_shaped  # here: it loads torch, and processes of some tests do without

    folder = make_bge_shaped(tmp_path_factory.mktemp("models") / "tiny")
    (folder / "README.md").write_text("# not served\n")
    (folder / ".gitattributes").write_text("*.bin lfs\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("[core]\n")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"onnx")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights again")
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> ModelSpec:
    """The catalogue's entry for the tiny model."""
    return ModelSpec.model_validate(
        {
            **{"name": "tiny", "source": {"folder": tiny_folder}, "handler": "bge", "device": "cpu"},
            **{"backend": "torch", "dtype": "float32"},  # nothing to be tried: these tests are about packing
        }
    )
