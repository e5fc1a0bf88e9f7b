"""Each module class that is served, and the lists of names, against the libraries that they are lists of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer, models
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

from handlers.model_folder import MODEL_TYPES, MODULE_CLASSES, TOKENIZER_FILES, TOKENIZERS, read_contents
from handlers.sentence_handler import SentenceHandler
from tests.handlers.conftest import BACKENDS
from tests.handlers.torchserve_wire import Worker, json_body, unpack
from tests.model_folders import convert, make_bge_shaped

TEXTS = ["Close vectors mean close meanings.", "a", "How do I deploy a model? " * 8, "天地玄黄"]
ACTIVATIONS = ["Tanh", "ReLU", "GELU", "Sigmoid", "LeakyReLU", "SiLU", "Identity"]


def layers(activation: str) -> list[Any]:
    """One of each module class behind the transformer, with an activation."""
    torch.manual_seed(1)
    norm = models.LayerNorm(48)
    torch.nn.init.normal_(norm.norm.weight)
    pooling = models.Pooling(64, pooling_mode_mean_tokens=True, pooling_mode_max_tokens=activation == "GELU")
    sizes = {"in_features": pooling.get_sentence_embedding_dimension(), "out_features": 48}
    dense = models.Dense(**sizes, activation_function=getattr(torch.nn, activation)())
    return [pooling, models.Dropout(0.4), dense, norm, models.Normalize()]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_all_modules_serve_as_sentence_transformers_does(activation: str, backend: str, tmp_path: Path) -> None:
    """A folder with all classes of the list, as sentence-transformers 2.2.2 saves it, answers with its vectors."""
    base = models.Transformer(str(make_bge_shaped(tmp_path / "base")), max_seq_length=64)
    plain = SentenceTransformer(modules=[base, *layers(activation)], device="cpu").eval()
    folder = tmp_path / "saved"
    plain.save(str(folder), create_model_card=False)
    assert {module.type for module in read_contents(folder).modules} == set(MODULE_CLASSES)
    converted = convert(folder, tmp_path / "converted") if backend == "openvino" else None
    worker = Worker(SentenceHandler(), unpack(tmp_path / "archive", folder, converted=converted, device="cpu"))
    expected = plain.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False, batch_size=1)
    answer = worker.ask_one(json_body({"input": TEXTS}))
    assert np.sum(np.asarray(answer.vectors) * expected, axis=1).min() > 0.99999


@pytest.mark.parametrize("name", sorted(MODEL_TYPES))
def test_model_types_are_those_of_transformers(name: str) -> None:
    """Each listed model type is a model of the pinned transformers, with a fast tokenizer."""
    assert name in MODEL_MAPPING_NAMES
    assert TOKENIZER_MAPPING_NAMES[name][1] is not None
    assert TOKENIZER_MAPPING_NAMES[name][1].removesuffix("TokenizerFast") in TOKENIZERS


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_tokenizers_are_those_of_transformers(name: str) -> None:
    """Each listed tokenizer is a fast one of the pinned transformers, and reads no file that is not listed."""
    fast = tokenizer_class_from_name(f"{name}TokenizerFast")
    assert issubclass(fast, transformers.PreTrainedTokenizerFast)
    slow = tokenizer_class_from_name(f"{name}Tokenizer")
    assert slow is None or issubclass(slow, transformers.PreTrainedTokenizerBase)
    assert {file for file in fast.vocab_files_names.values() if "." in file} <= TOKENIZER_FILES


def test_a_limit_beyond_64_bits_stays(tmp_path: Path) -> None:
    """What is left of a file is as it was, numbers of any size among it."""
    folder = make_bge_shaped(tmp_path / "model")
    path = folder / "tokenizer_config.json"
    kept = json.loads(path.read_text()) | {"model_max_length": int(1e30), "note": "Ünïcödé"}
    path.write_text(json.dumps(kept | {"chat_template": "x"}))
    contents = read_contents(folder)
    assert json.loads(contents.replaced["tokenizer_config.json"]) == kept
    assert contents.left_out == ("tokenizer_config.json: chat_template",)
