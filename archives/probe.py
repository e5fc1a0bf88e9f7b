"""Load an unpacked archive as a TorchServe worker does, embed, and compare with plain sentence-transformers.

Run by path in a process of its own: `python -I -B probe.py FOLDER RESULT [MODEL]`, with FOLDER as working directory.
MODEL is a folder that plain sentence-transformers can load; without one, the vectors that it once gave, as the archive
carries them, are compared with. It writes RESULT as JSON, {"error": …} among it where something is wrong, and imports
nothing of this project: the archive has to carry all it needs.
"""

import base64
import importlib
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

# An installed or checked-out copy of these must never stand in for what was packed.
FORBIDDEN = frozenset({"handlers", "archives", "ops", "env"})
REFERENCE_NAME = "embedkit-reference.json"

LONG = "Embedding models turn texts into vectors. 向量检索依赖于好的文本表示。 " * 60
# The first is what later probes of a running service send: short, and the same everywhere.
ALONE = ("The truth is a real request.", "北京的秋天很美，适合散步。")
TOGETHER = (
    "A",
    "What is the capital of France?",
    "如何部署一个向量模型？",
    "Ünïcödé · naïve café",
    LONG,
    "short again",
)


class ProbeError(Exception):
    """The archive is wrong; the message says how."""


class _Refuse:
    """An import hook, asked first, that has none of this project's own packages."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name in FORBIDDEN:
            raise ModuleNotFoundError(
                f"No module named {name!r}: an archive has to carry its own code, whatever is installed", name=name
            )


def texts_within(card: dict[str, Any]) -> list[str]:
    """The texts to send, as far as the card lets a text go."""
    # In JSON a character takes up to 6 bytes; 100 are for what stands around it.
    most = min(card["max_chars"], max(1, (card["max_body_bytes"] - 100) // 6))
    return [text[:most] for text in (*ALONE, *TOGETHER)]


def in_requests(texts: list[str], card: dict[str, Any], answer_bytes: int) -> list[list[str]]:
    """The texts in as few requests as the card's limits allow, where an answer takes so many bytes a text."""
    requests: list[list[str]] = []
    room = 0
    for text in texts:
        size = len(json.dumps(text)) + 2
        if not requests or size > room or len(requests[-1]) >= most_texts(card, answer_bytes):
            requests.append([])
            room = card["max_body_bytes"] - 100
        requests[-1].append(text)
        room -= size
    return requests


def most_texts(card: dict[str, Any], answer_bytes: int) -> int:
    """How many texts a request may have; an answer may be a tenth longer than the one seen."""
    by_bytes = int(card["max_answer_bytes"] / (1.1 * answer_bytes))
    return max(1, min(int(card["max_texts"]), by_bytes))


def load(folder: Path, card: dict[str, Any], batch_size: int) -> Any:
    """The archive's service, by TorchServe's own loader."""
    # Imported by name first: the loader turns any ImportError into one about ts.torch_handler.
    importlib.import_module("embedkit_entry")

    import torch
    import ts
    from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
    from ts.model_loader import ModelLoaderFactory

    metrics = MetricsCacheYamlImpl(config_file_path=str(Path(ts.__file__).parent / "configs" / "metrics.yaml"))
    metrics.initialize_cache()
    metrics.model_name = card["model"]
    gpu = 0 if card["device"] != "cpu" and torch.cuda.is_available() else None
    loader = ModelLoaderFactory.get_model_loader()
    return loader.load(card["model"], str(folder), "embedkit_entry.py", gpu, batch_size, None, True, metrics)


@dataclass(frozen=True)
class Served:
    """What a batch was answered with; `longest` is the longest answer's bytes."""

    vectors: list[list[float]]
    fingerprint: str
    longest: int


def ask(service: Any, requests: list[list[str]]) -> Served:
    """Send all requests as one batch, as a worker gets it."""
    from ts.protocol.otf_message_handler import create_predict_response
    from ts.service import Service

    batch = [
        {
            "requestId": str(number).encode(),
            "headers": [{"name": b"Content-Type", "value": b"application/json"}],
            "parameters": [
                {"name": "body", "contentType": "application/json", "value": json.dumps({"input": texts}).encode()}
            ],
        }
        for number, texts in enumerate(requests)
    ]
    headers, data, ids = Service.retrieve_data_for_inference(batch)
    context = service.context
    context.request_ids, context.request_processor = ids, headers
    answers = service._entry_point(data, context)
    if not isinstance(answers, list) or len(answers) != len(batch):
        raise ProbeError(f"the handler answered a batch of {len(batch)} with {type(answers).__name__}, not as many")
    create_predict_response(answers, ids, "Prediction success", 200, context=context)  # what fails here kills a worker
    vectors: list[list[float]] = []
    for number, answer in enumerate(answers):
        status, _ = context.get_response_status(number)
        if status != 200:
            raise ProbeError(f"the handler answered a plain text with {status}: {bytes(answer).decode()[:300]}")
        vectors += [item["embedding"] for item in json.loads(answer)["data"]]
    fingerprint = str(context.get_response_headers(0).get("X-Embedkit-Fingerprint", ""))
    return Served(vectors, fingerprint, max(map(len, answers)))


def positions(model: Any) -> int | None:
    """How many tokens the position embeddings carry; RoBERTa's and its kin's begin behind the padding's position."""
    body = getattr(model[0], "auto_model", None)
    table = getattr(getattr(body, "embeddings", None), "position_embeddings", None)
    count, padding = getattr(table, "num_embeddings", None), getattr(table, "padding_idx", None)
    return None if count is None else int(count) - (0 if padding is None else padding + 1)


def reference(folder: Path, card: dict[str, Any], texts: list[str]) -> list[list[float]]:
    """What plain sentence-transformers gives for the same texts, in float32 on the CPU, cut where the archive cuts."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu").float().eval()
    limits = (card["max_tokens"], model.max_seq_length, positions(model))
    model.max_seq_length = min((limit for limit in limits if limit is not None), default=None)
    vectors = model.encode(texts, normalize_embeddings=True, show_progress_bar=False, batch_size=1)
    return [[float(value) for value in vector] for vector in vectors]


def stored_reference(folder: Path) -> tuple[list[str], list[list[float]]]:
    """Texts, and what plain sentence-transformers gave for them when the archive was packed."""
    import numpy as np

    about = json.loads((folder / REFERENCE_NAME).read_bytes())
    vectors = [np.frombuffer(base64.b64decode(each), dtype="<f4") for each in about["vectors"]]
    return about["texts"], [[float(value) for value in vector] for vector in vectors]


def compare(served: list[list[float]], expected: list[list[float]]) -> float:
    """The smallest cosine between what was served and what was expected, text by text."""
    import numpy as np

    if [len(vector) for vector in served] != [len(vector) for vector in expected]:
        raise ProbeError(
            f"{len(served)} vectors of {len(served[0])} came, {len(expected)} of {len(expected[0])} should"
        )
    ours, theirs = np.asarray(served, np.float64), np.asarray(expected, np.float64)
    norms = np.linalg.norm(ours, axis=1)
    if not bool(np.all(np.abs(norms - 1) < 1e-3)):
        raise ProbeError(f"vectors are not of length 1, but of {norms.min():.6f} to {norms.max():.6f}")
    return float((np.sum(ours * theirs, axis=1) / norms / np.linalg.norm(theirs, axis=1)).min())


def probe(folder: Path, model: Path | None) -> dict[str, Any]:
    card = json.loads((folder / "embedkit.json").read_bytes())
    sys.meta_path.insert(0, _Refuse())
    sys.path.insert(0, str(folder))  # where TorchServe's PYTHONPATH puts it
    texts, expected = stored_reference(folder) if model is None else (texts_within(card), [])
    # The archive's own loader goes first: it refuses what sentence-transformers would run, or make up.
    service = load(folder, card, len(texts))
    if model is not None:
        if not model.resolve().is_relative_to(folder):
            (package,) = (path.name for path in folder.glob("embedkit_worker_*"))
            importlib.import_module(f"{package}.loading").load(model, device="cpu", dtype="float32")
        expected = reference(model, card, texts)
    first = ask(service, [[text] for text in texts[: len(ALONE)]])
    rest = ask(service, in_requests(texts[len(ALONE) :], card, first.longest))
    return {
        "fingerprint": first.fingerprint,
        "dimensions": len(first.vectors[0]),
        "texts": texts,
        "vectors": expected,
        "min_cosine": compare(first.vectors + rest.vectors, expected),
        "notes": [note.replace(f"{folder}/", "") for note in _notes(service)],
    }


def _notes(service: Any) -> Sequence[str]:
    """What the archive's handler has to tell of its model; an older kit's tells nothing."""
    return getattr(getattr(service._entry_point.__self__, "engine", None), "notes", ())


def _explain(error: BaseException, folder: Path) -> str:
    """The error itself and the archive's line it came through, without the loader's frames around it."""
    last = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(folder))][-1:]
    at = "".join(f" (at {Path(frame.filename).relative_to(folder)}:{frame.lineno})" for frame in last)
    return f"{type(error).__name__}: {error}{at}"


def main(folder: Path, result: Path, model: Path | None) -> int:
    try:
        found = probe(folder, model)
    except ProbeError as error:
        found = {"error": str(error)}
    except BaseException as error:  # noqa: BLE001 - SystemExit too: whatever ends a worker is what is asked here
        found = {"error": _explain(error, folder)}
        traceback.print_exc()
    result.write_text(json.dumps(found))
    return 1 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None))
