"""Try candidates for backend and dtype on a model, the fastest first, and take the first that is the model still.

Run by path in a process of its own, as probe.py is: `python -I -B trial.py JOB RESULT`, both JSON files. The job:
    folder      an archive's unpacked folder in the making: the worker package and model/ with all its weights
    package     the worker package's name
    card        the serving card, as keys and values
    candidates  [[backend, dtype], …], the fastest first
    bars        dtype → the least cosine with float32
It writes what a candidate needs into the folder, and RESULT: {"tried": [{"backend", "dtype", "device", "cosine"}, …]},
`device` being the one it computed on ("cpu", "cuda"), with a "reason" where no cosine could be computed, and "passing":
true where that was a lack of memory or disk. The last is the one taken, where its cosine reaches the bar.
"notes" beside it says what whoever packs should be told of the model.
{"no_gpu": why} where the card's device is auto and torch can use no GPU: the candidates are another machine's.
{"error": …} where nothing can be tried.
"""

import errno
import importlib
import json
import math
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

# English and Chinese, prose and what is none, from one token up to beyond every limit; cut to the card's own limits.
# The first two are those that probe.py sends alone.
PROSE = "Embedding models turn texts into vectors, and close vectors mean close meanings. "
CHINESE = "向量检索依赖于好的文本表示，长的文章尤其如此。"
SAMPLE = (
    "The truth is a real request.",
    "北京的秋天很美，适合散步。",
    "A",
    "天",
    "How do I deploy a model?",
    "如何部署一个向量模型？",
    "Ünïcödé · naïve café, 1,234.5 € and 😀",
    "SELECT name FROM models WHERE dtype = 'bfloat16';",
    PROSE * 3,
    CHINESE * 3,
    PROSE * 8,
    CHINESE * 10,
)


_NO_ROOM = frozenset({errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})
# As torch, CUDA's libraries, the C++ library and OpenVINO (whose files' errors have no number) tell it.
_NO_ROOM_SAID = ("out of memory", "allocate memory", "alloc_failed", "bad_alloc", "no space left", "iostream error")


def is_passing(error: BaseException | None) -> bool:
    """Whether it failed for want of memory or disk: of the moment, not of the model or the machine."""
    while error is not None:
        said = str(error).lower()
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in _NO_ROOM:
            return True
        if any(sign in said for sign in _NO_ROOM_SAID):
            return True
        error = error.__cause__
    return False


def longest_text(characters: int) -> str:
    """Varied prose of so many characters: at least a token each three of them."""
    made = ""
    number = 0
    while len(made) < characters:
        number += 1
        made += f"{number}. {PROSE if number % 2 else CHINESE}"
    return made[:characters]


def sample(card: dict[str, Any], max_tokens: int) -> list[str]:
    """The texts to compare on, within the card's limits; the last one fills what the model reads of a text."""
    texts = [*SAMPLE, longest_text(8 * max_tokens)]
    return [text[: card["max_chars"]] for text in texts]


def plain(folder: Path, max_tokens: int, texts: list[str]) -> Any:
    """Plain sentence-transformers' vectors of the texts, cut as the kit cuts them: float32, one at a time, on the CPU.

    The folder's own limit may lie beyond its positions; sentence-transformers then reads beyond the table.
    """
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu").float().eval()
    model.max_seq_length = max_tokens
    return model.encode(texts, normalize_embeddings=True, show_progress_bar=False, batch_size=1)


def convert(worker: dict[str, Any], model: Any, target: Path) -> None:
    """Write a model that was loaded for the CPU in float32 as OpenVINO's: `target` and a .bin beside it.

    `worker` are the worker's modules by name. For rows of several texts where the model can do that.
    The same model gives the same bytes: there is neither a time nor a path in them.
    """
    import torch

    openvino, forward = worker["openvino_backend"].import_openvino(), worker["forward"]
    rows, width, texts = 2, 8, 3
    ids = torch.full((rows, width), 1)
    example: tuple[Any, ...]
    if model.can_pack:
        mask = torch.ones((rows, width, width), dtype=torch.bool)
        example = (ids, torch.arange(width).repeat(rows, 1), mask, torch.full((rows, texts, width), 1 / width))
        pipeline = forward.PackedPipeline(model)
    else:
        example = (ids, torch.ones_like(ids))
        pipeline = forward.Pipeline(model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openvino traces by torch.jit, which torch calls deprecated
        converted = openvino.convert_model(pipeline.eval(), example_input=example)
    target.parent.mkdir(exist_ok=True)
    openvino.save_model(converted, str(target), compress_to_fp16=False)


class Trial:
    """One model's candidates, each loaded by the very code that will serve it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.folder, self.card, self.bars = Path(job["folder"]), job["card"], job["bars"]
        sys.path.insert(0, str(self.folder))
        self._worker = {
            name: importlib.import_module(f"{job['package']}.{name}")
            for name in ("card", "devices", "engine", "forward", "loading", "openvino_backend", "parity")
        }

    def missing_gpu(self) -> str | None:
        """Why torch uses no GPU where one may be used; None where it does, or none is wanted.

        Raises the worker's DeviceError where one has to be used and cannot.
        """
        devices, wanted = self._worker["devices"], self.card["device"]
        choice = devices.choose(wanted, "float32", None, devices.look(wanted))
        return choice.reason if wanted != "cpu" and choice.device == "cpu" else None

    def read(self) -> None:
        """Load the model, and compute what its candidates are held against."""
        self._loaded = self._worker["loading"].load(self.folder / "model", device="cpu", dtype="float32")
        self.notes = self._loaded.notes
        limit = self._worker["engine"].limit_of(self._loaded, self._card("torch", "float32"))
        self.texts = sample(self.card, limit)
        self.expected = plain(self.folder / "model", limit, self.texts)

    def outcome(self, backend: str, dtype: str) -> tuple[str, float]:
        """The device this candidate computed on, and its vectors' least cosine with plain sentence-transformers'."""
        worker, card = self._worker, self._card(backend, dtype)
        if backend == "openvino" and not (self.folder / worker["openvino_backend"].CONVERTED).exists():
            convert(worker, self._loaded, self.folder / worker["openvino_backend"].CONVERTED)
        found = worker["devices"].look(card.device)
        choice = worker["devices"].choose(card.device, dtype, None, found)
        if choice.device != "cpu" and dtype == "bfloat16":
            import torch

            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise worker["loading"].LoadError(f"{choice.name} only emulates bfloat16")
        engine = worker["engine"].load_engine(card, self.folder, choice, check=lambda model: None)
        engine.warm_up()  # refuses what would be refused at every load
        cosine = worker["parity"].least_cosine(engine.embed_texts(self.texts), self.expected)
        return choice.device.partition(":")[0], float(cosine)

    def write_reference(self, bar: float) -> None:
        """What every load of the archive is held against."""
        parity = self._worker["parity"]
        reference = parity.Reference(self.texts, self.expected, bar)
        (self.folder / parity.REFERENCE_NAME).write_bytes(reference.to_json())

    def _card(self, backend: str, dtype: str) -> Any:
        changed = {"backend": backend, "dtype": dtype} | ({"device": "cpu"} if backend == "openvino" else {})
        return self._worker["card"].ServingCard(**{**self.card, **changed})


def without_place(said: str, job: dict[str, Any]) -> str:
    """The same without the folder's name: an archive must not depend on where it was made, and the folder goes."""
    return said.replace(f"{job['folder']}/", "")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Try until one passes; see the module's own words for what comes back."""
    trial = Trial(job)
    if (missing := trial.missing_gpu()) is not None:
        return {"no_gpu": missing}
    trial.read()
    tried: list[dict[str, Any]] = []
    for backend, dtype in job["candidates"]:
        one: dict[str, Any] = {"backend": backend, "dtype": dtype}
        tried.append(one)
        try:
            one["device"], cosine = trial.outcome(backend, dtype)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the next candidate may do
            traceback.print_exc()
            one["reason"] = f"{type(error).__name__}: {without_place(str(error), job)}"[:500]
            if is_passing(error):
                one["passing"] = True
            continue
        if not math.isfinite(cosine):  # float16 overflows; the next candidate may not
            one["reason"] = "its vectors are not finite"
            continue
        one["cosine"] = round(cosine, 7)
        if cosine >= trial.bars[dtype]:
            trial.write_reference(trial.bars[dtype])
            break
    return {"tried": tried, "notes": [without_place(note, job) for note in trial.notes]}


def main(job: Path, result: Path) -> int:
    about = json.loads(job.read_bytes())
    try:
        found = run(about)
    except Exception as error:  # noqa: BLE001 - told to the person who packs
        traceback.print_exc()
        advice = " (memory or disk: make room, and pack again)" if is_passing(error) else ""
        found = {"error": without_place(f"{type(error).__name__}: {error}", about) + advice}
    result.write_text(json.dumps(found))
    return 1 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
