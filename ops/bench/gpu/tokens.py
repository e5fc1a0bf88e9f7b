"""How many tokens the model reads of a text, by its tokenizer alone: no model is loaded for it."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from ops.bench.gpu.shape import POSITIONS


def lengths(folder: Path, texts: Sequence[str]) -> list[int]:
    """Special tokens included, cut as the model cuts them; `folder` is the model's."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(POSITIONS)
    # One after the other: the threads that a batch would start stay in this process, which generates the load.
    return [len(tokenizer.encode(text).ids) for text in texts]
