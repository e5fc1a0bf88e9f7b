"""Make a sentence-transformers folder of BERT's shape with seeded weights, where no hub can be had.

    python -m ops.bench.gpu.made FOLDER [--small]

Speed and closeness to float32 do not need trained weights, but ones that keep the spread through all layers, so that
different texts get clearly different vectors: a comparison that a constant would pass proves nothing. The largest
shape is written in seconds, so drawing is uniform and plain.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizerFast

from ops.bench import words
from ops.bench.gpu.shape import FULL, POSITIONS, SMALL

VOCABULARY = 21128  # BAAI/bge-large-zh's


def write_folder(
    path: Path,
    *,
    layers: int,
    hidden: int,
    heads: int,
    positions: int,
    pooling: str,
    normalize: bool,
    lower_case: bool,
    seed: int,
    whole_words: Sequence[str] = (),
) -> None:
    """The whole folder; `pooling` is "cls" or "mean", `whole_words` are lower-case words that are one token each, where
    others are spelt letter by letter. The same arguments give the same bytes.
    """
    config = BertConfig(
        vocab_size=VOCABULARY,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=positions,
        architectures=["BertModel"],
    )
    path.mkdir(parents=True)
    config.save_pretrained(path)
    save_file(dict(_weights(config, seed)), path / "model.safetensors", metadata={"format": "pt"})
    _write_tokenizer(path, positions, whole_words)
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
    _write_json(path / "sentence_bert_config.json", {"max_seq_length": positions, "do_lower_case": lower_case})
    _write_json(path / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden, **modes})
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


def _write_tokenizer(path: Path, positions: int, whole_words: Sequence[str]) -> None:
    specials = ["[PAD]", *(f"[unused{number}]" for number in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ascii_characters = [chr(code) for code in range(0x21, 0x7F)]
    endings = [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    known = [*specials, *ascii_characters, *endings, *whole_words]
    chinese = [chr(0x4E00 + number) for number in range(VOCABULARY - len(known))]
    (path / "vocab.txt").write_text("\n".join([*known, *chinese]) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(str(path / "vocab.txt"), model_max_length=positions, do_lower_case=True)
    tokenizer.save_pretrained(path)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def english_words() -> list[str]:
    """The words that the benchmark's English texts are made of, lower-case, as a trained vocabulary would have them:
    spelt letter by letter, a text of 512 tokens would take several times as long to tokenize as it should.
    """
    lists = (value for name, value in vars(words).items() if name.isupper() and not name.startswith("ZH_"))
    found = {part for each in lists for word in each for part in word.lower().split()}
    return sorted(word for word in found if word.isascii() and word.isalpha() and len(word) > 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    shape = SMALL if arguments.small else FULL
    write_folder(
        arguments.folder,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        positions=POSITIONS,
        pooling="cls",
        normalize=True,
        lower_case=True,
        seed=1,
        whole_words=english_words(),
    )


if __name__ == "__main__":
    main()
