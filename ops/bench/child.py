"""A process that computes vectors without a server, for the bound and for reference vectors.

Run by path in a process of its own: `python -I -B child.py SPEC`, SPEC being JSON:
  {"kind": "engine", "folder": unpacked archive, "gpu": null or its number, "ahead": null or texts}: the archive's own
      handler, loaded as TorchServe loads it; only its engine is used; so many texts are tokenized at a time in a thread
      of its own while those before them are computed, null: all of them first
  {"kind": "plain", "folder": model folder, "threads": n, "dtype": "float32", "max_tokens": n, "device": "cpu"}:
      SentenceTransformer.encode
It imports nothing of this project: what it measures is what was packed. Each line on stdin is a command, answered
by a line of JSON: {"do": "texts", "texts": […]} is to be followed by one of
  "all": the texts at once, as fast as it goes, sorted by length; with "batch_tokens", in batches of at most so many
      padded tokens; answers start and end (time.monotonic, the same clock in all processes) and tokens
  "alone": one text after the other; answers the seconds of each
  "vectors": the vectors       "lengths": the tokens of each text, of an engine
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class PackedEngine:
    """The engine in an unpacked archive."""

    def __init__(self, spec: dict[str, Any]) -> None:
        folder = Path(spec["folder"])
        os.chdir(folder)
        sys.path.insert(0, str(folder))  # where TorchServe's PYTHONPATH puts it
        import embedkit_entry  # type: ignore[import-not-found]

        service = embedkit_entry.Service()
        properties = {"model_dir": str(folder), "gpu_id": spec["gpu"]}
        service.initialize(SimpleNamespace(model_yaml_config={}, system_properties=properties, model_name=None))
        self._engine = service.engine
        self._ahead: int | None = spec["ahead"]
        self.about = {
            "device": service.facts.device,
            "max_tokens": self._engine.max_tokens,
            "dimensions": self._engine.dimensions,
            "fingerprint": service.card.fingerprint,
        }

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(tokens.ids) for tokens in self._engine.tokenizer.encode_texts(texts)]

    def vectors(self, texts: Sequence[str]) -> Any:
        return self._engine.embed(self._engine.tokenizer.encode_texts(texts))

    def everything(self, texts: Sequence[str], batch_tokens: int | None) -> int:
        total = 0
        for tokens in self._tokenized(texts):
            total += sum(len(each.ids) for each in tokens)
            ordered = sorted(tokens, key=lambda each: -len(each.ids))
            while ordered:
                count = len(ordered)
                if batch_tokens is not None:
                    count = max(1, batch_tokens // max(1, len(ordered[0].ids)))
                self._engine.embed(ordered[:count])
                ordered = ordered[count:]
        return total

    def _tokenized(self, texts: Sequence[str]) -> Iterator[Any]:
        """The texts' tokens, in pieces; the texts come sorted by length (bound.deal), so each piece is of one kind."""
        step = self._ahead or len(texts)
        pieces = [texts[start : start + step] for start in range(0, len(texts), step)]
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(self._engine.tokenizer.encode_texts, pieces[0])
            for following in pieces[1:]:
                tokens = upcoming.result()
                upcoming = pool.submit(self._engine.tokenizer.encode_texts, following)
                yield tokens
            yield upcoming.result()


def _positions(model: Any) -> int | None:
    """How many tokens the position embeddings carry; RoBERTa's and its kin's begin behind the padding's position."""
    table = getattr(getattr(model[0].auto_model, "embeddings", None), "position_embeddings", None)
    count, padding = getattr(table, "num_embeddings", None), getattr(table, "padding_idx", None)
    return None if count is None else int(count) - (0 if padding is None else padding + 1)


class PlainModel:
    """sentence-transformers as anybody would use it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        if spec["device"] == "cpu":
            torch.set_num_threads(spec["threads"])
        model = SentenceTransformer(spec["folder"], device=spec["device"]).eval()
        self._model = model.to(getattr(torch, spec["dtype"]))
        limits = [spec["max_tokens"], model.max_seq_length, _positions(model)]
        self._model.max_seq_length = min(limit for limit in limits if limit is not None)
        self.about = {"device": spec["device"], "max_tokens": self._model.max_seq_length}
        self.vectors(["How are vectors made?", "教练, 我想打篮球. " * 8])

    def vectors(self, texts: Sequence[str]) -> Any:
        # One at a time, as these are references: nothing is padded, which changes them and takes its time.
        return self._encode(texts, batch_size=1)

    def everything(self, texts: Sequence[str], batch_tokens: int | None) -> None:
        self._encode(texts, batch_size=32)  # encode's own default

    def _encode(self, texts: Sequence[str], batch_size: int) -> Any:
        # As a tensor: numpy has no bfloat16.
        found = self._model.encode(
            list(texts),
            batch_size=batch_size,
            normalize_embeddings=True,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return found.float().cpu().numpy()


def answer(model: Any, texts: list[str], command: dict[str, Any]) -> dict[str, Any]:
    """What one command came to."""
    match command["do"]:
        case "all":
            start = time.monotonic()
            tokens = model.everything(texts, command.get("batch_tokens")) if texts else 0
            return {"start": start, "end": time.monotonic(), "tokens": tokens}
        case "alone":
            seconds = []
            for text in texts:
                start = time.perf_counter()
                model.vectors([text])
                seconds.append(time.perf_counter() - start)
            return {"seconds": seconds}
        case "vectors":
            return {"vectors": [[float(value) for value in vector] for vector in model.vectors(texts)] if texts else []}
        case "lengths":
            return {"lengths": model.lengths(texts)}
        case other:
            raise ValueError(f"unknown command {other!r}")


def main() -> None:
    spec = json.loads(sys.argv[1])
    # Answers have a channel of their own: whatever a library prints goes to stderr.
    with os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1) as out:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")
        model = PackedEngine(spec) if spec["kind"] == "engine" else PlainModel(spec)
        out.write(json.dumps(model.about) + "\n")
        texts: list[str] = []
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "texts":
                texts = command["texts"]
                found: dict[str, Any] = {"texts": len(texts)}
            else:
                found = answer(model, texts, command)
            out.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
