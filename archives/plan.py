"""What an archive is to hold, decided before a byte is written: a pure function of its inputs.

The small files are made here; the weights are named with the hashes that their snapshot knows. `inputs` is a digest
over all of it, so that an existing archive can be asked at no cost whether it is what would be made now.

Where OpenVINO serves, the archive carries the converted model and leaves the model's own weights out: they are the
same numbers again. The manifest names the files left out with their hashes (`left_out`), and the reference that every
load and `verify` compare with was made of them by plain sentence-transformers.
"""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from archives.catalogue import ModelSpec
from archives.errors import PackError
from archives.resolve import Resolution
from archives.selection import is_weights
from archives.snapshot import FileEntry, Snapshot
from archives.worker import COMPUTING, installed_versions, worker_sources
from handlers.card import CARD_NAME, CardError, ServingCard

MANIFEST_NAME = "embedkit-manifest.json"
ENTRY_NAME = "embedkit_entry.py"
CONFIG_NAME = "model-config.yaml"
MODEL_FOLDER = "model"
FORMAT = 2  # of the archive: counted up when what stands below changes its meaning

# handler in models.toml → module and class in handlers/
HANDLERS = {
    "sentence": ("sentence_handler", "SentenceHandler"),
    "bge": ("bge_handler", "BgeHandler"),
    "tao_8k": ("tao_8k_handler", "Tao8kHandler"),
}
RECORDED = (*COMPUTING, "torchserve")
# TorchServe gives a model up for ever once a worker still fails this long after its first failure (300 s unless told).
# It counts milliseconds in 32 bits, so 24 days is the most it can be told.
RETRY_SECONDS = 20 * 24 * 3600


@dataclass(frozen=True)
class LockInfo:
    """The lock that the environment was installed from: its flavour (cpu, cuda12, …) and its file's sha256."""

    flavour: str
    sha256: str


class Placed(Protocol):
    """The part of archives.placement.Layout that an archive carries."""

    @property
    def workers(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def on_gpu(self) -> bool: ...


@dataclass(frozen=True)
class Moved:
    """A file that is copied into the archive as it is."""

    source: Path
    entry: FileEntry


@dataclass(frozen=True)
class Plan:
    """`small` maps archive names to contents, `moved` to files; `manifest` lacks the archiver's own, added later."""

    spec: ModelSpec
    moved: Mapping[str, Moved]
    small: Mapping[str, bytes]
    manifest: Mapping[str, object]

    @property
    def inputs(self) -> str:
        return str(self.manifest["inputs"])


def make_plan(spec: ModelSpec, snapshot: Snapshot, resolution: Resolution, layout: Placed, lock: LockInfo) -> Plan:
    """Decide all of an archive.

    Raises:
        PackError: the handler is not in handlers/, or the card would not be valid.
    """
    package, sources = worker_sources()
    module, name = HANDLERS[spec.handler]
    if f"{package}/{module}.py" not in sources:
        raise PackError(f"{spec.name}: handler {spec.handler!r} needs handlers/{module}.py, which is not there")
    card = _card(spec, snapshot, resolution, layout)
    small = {
        **sources,
        ENTRY_NAME: _entry(package, module, name),
        CONFIG_NAME: _model_config(spec, resolution, layout),
        CARD_NAME: card.to_json(),
        **{f"{MODEL_FOLDER}/{name}": content for name, content in snapshot.contents.replaced.items()},
    }
    moved, left_out = _moved(snapshot, resolution)
    about: dict[str, object] = {
        "format": FORMAT,
        "kit": card.kit,
        "model": spec.name,
        "version": spec.version,
        "revision": snapshot.revision,
        "source": dict(snapshot.source),
        "engine": {
            "backend": resolution.backend,
            "dtype": resolution.dtype,
            "device": resolution.device,
            "decision": resolution.decision,
            "tried": [dict(one) for one in resolution.tried],
        },
        "left_out": {path: {"sha256": entry.sha256, "bytes": entry.bytes} for path, entry in left_out.items()},
        "lock": {"flavour": lock.flavour, "sha256": lock.sha256},
        "versions": installed_versions(RECORDED),
        "trained_with": snapshot.trained_with,
    }
    archiver = importlib.metadata.version("torch-model-archiver")
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in small.items()}
    large = {path: one.entry.sha256 for path, one in moved.items()}
    inputs = orjson.dumps([about, archiver, digests, large], option=orjson.OPT_SORT_KEYS)
    return Plan(spec, moved, small, about | {"inputs": hashlib.sha256(inputs).hexdigest()})


def _moved(snapshot: Snapshot, resolution: Resolution) -> tuple[dict[str, Moved], dict[str, FileEntry]]:
    """What is copied into the archive, and which of the model's files are not."""
    moved, left_out = {}, {}
    for name, entry in snapshot.files.items():
        path = f"{MODEL_FOLDER}/{name}"
        if name in snapshot.contents.replaced:
            continue  # made, not moved
        if resolution.carries_weights or not is_weights(name):
            moved[path] = Moved(snapshot.root / name, entry)
        else:
            left_out[path] = entry
    if resolution.root is not None:
        moved |= {name: Moved(resolution.root / name, entry) for name, entry in resolution.files.items()}
    return moved, left_out


def _entry(package: str, module: str, name: str) -> bytes:
    # TorchServe takes the one class that is defined in this very module.
    return (
        f'"""What TorchServe imports: made by `embedkit pack`."""\n\n'
        f"from {package}.{module} import {name}\n\n\n"
        f"class Service({name}):\n"
        f'    """The handler of this archive."""\n'
    ).encode()


def _model_config(spec: ModelSpec, resolution: Resolution, layout: Placed) -> bytes:
    """TorchServe's own settings of the model; it ignores unknown keys and only warns of wrong types."""
    device = {"cpu": "cpu", "cuda": "gpu", "auto": None}[resolution.device]
    settings = {
        "minWorkers": layout.workers,
        "maxWorkers": layout.workers,
        "batchSize": spec.batch_size,
        "maxBatchDelay": spec.max_batch_delay_ms,
        "responseTimeout": spec.response_timeout_s,
        "startupTimeout": spec.startup_timeout_s,
        "jobQueueSize": spec.queue_size,
        "maxRetryTimeoutInSec": RETRY_SECONDS,
    } | ({"deviceType": device} if device else {})
    return "".join(f"{key}: {value}\n" for key, value in settings.items()).encode()


def _card(spec: ModelSpec, snapshot: Snapshot, resolution: Resolution, layout: Placed) -> ServingCard:
    try:
        return ServingCard(
            model=spec.name,
            version=spec.version,
            revision=snapshot.revision,
            kit=importlib.metadata.version("embedkit"),
            device=resolution.device,
            dtype=resolution.dtype,
            backend=resolution.backend,
            batch_invariant=spec.batch_invariant,
            decision=resolution.decision,
            threads=layout.threads,
            max_tokens=spec.max_tokens,
            max_texts=spec.max_texts,
            max_chars=spec.max_chars,
            max_body_bytes=spec.max_body_bytes,
            max_answer_bytes=spec.max_answer_bytes,
            token_budget=spec.token_budget,
            max_request_tokens=spec.max_request_tokens,
            prompts=dict(spec.prompts),
        )
    except CardError as error:
        raise PackError(f"{spec.name}: {error}") from error
