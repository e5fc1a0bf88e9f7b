"""What an archive is to hold, decided before a byte is written: a pure function of its inputs.

The small files are made here; the weights are named with the hashes that their snapshot knows. `inputs` is a digest
over all of it, so that an existing archive can be asked at no cost whether it is what would be made now.
"""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

import handlers
from archives.catalogue import ModelSpec
from archives.errors import PackError
from archives.snapshot import Snapshot
from handlers.card import CARD_NAME, CardError, ServingCard

MANIFEST_NAME = "embedkit-manifest.json"
ENTRY_NAME = "embedkit_entry.py"
CONFIG_NAME = "model-config.yaml"
MODEL_FOLDER = "model"
FORMAT = 1  # of the archive: counted up when what stands below changes its meaning

# handler in models.toml → module and class in handlers/
HANDLERS = {
    "sentence": ("sentence_handler", "SentenceHandler"),
    "bge": ("bge_handler", "BgeHandler"),
    "tao_8k": ("tao_8k_handler", "Tao8kHandler"),
}
RECORDED = ("torch", "transformers", "sentence-transformers", "tokenizers", "safetensors", "numpy", "torchserve")
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


@dataclass(frozen=True)
class Plan:
    """`small` maps archive names to contents; `manifest` lacks the archiver's own file, which is added to it."""

    spec: ModelSpec
    snapshot: Snapshot
    small: Mapping[str, bytes]
    manifest: Mapping[str, object]

    @property
    def inputs(self) -> str:
        return str(self.manifest["inputs"])


def make_plan(spec: ModelSpec, snapshot: Snapshot, layout: Placed, lock: LockInfo) -> Plan:
    """Decide all of an archive.

    Raises:
        PackError: the handler is not in handlers/, or the card would not be valid.
    """
    package, sources = worker_sources(Path(handlers.__file__).parent)
    module, name = HANDLERS[spec.handler]
    if f"{package}/{module}.py" not in sources:
        raise PackError(f"{spec.name}: handler {spec.handler!r} needs handlers/{module}.py, which is not there")
    card = _card(spec, snapshot, layout)
    small = {
        **sources,
        ENTRY_NAME: _entry(package, module, name),
        CONFIG_NAME: _model_config(spec, layout),
        CARD_NAME: card.to_json(),
    }
    about: dict[str, object] = {
        "format": FORMAT,
        "kit": card.kit,
        "model": spec.name,
        "version": spec.version,
        "revision": snapshot.revision,
        "source": dict(snapshot.source),
        "lock": {"flavour": lock.flavour, "sha256": lock.sha256},
        "versions": _versions(),
        "trained_with": snapshot.trained_with,
    }
    archiver = importlib.metadata.version("torch-model-archiver")
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in small.items()}
    weights = {path: entry.sha256 for path, entry in snapshot.files.items()}
    inputs = orjson.dumps([about, archiver, digests, weights], option=orjson.OPT_SORT_KEYS)
    return Plan(spec, snapshot, small, about | {"inputs": hashlib.sha256(inputs).hexdigest()})


def worker_sources(folder: Path) -> tuple[str, dict[str, bytes]]:
    """The modules of handlers/ under a package name made of their content, which nothing installed can stand in for.

    Returns: the package's name, and archive name → source.
    """
    modules = {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}
    digest = hashlib.sha256()
    for name, content in modules.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    package = f"embedkit_worker_{digest.hexdigest()[:12]}"
    return package, {f"{package}/{name}": content for name, content in modules.items()}


def _entry(package: str, module: str, name: str) -> bytes:
    # TorchServe takes the one class that is defined in this very module.
    return (
        f'"""What TorchServe imports: made by `embedkit pack`."""\n\n'
        f"from {package}.{module} import {name}\n\n\n"
        f"class Service({name}):\n"
        f'    """The handler of this archive."""\n'
    ).encode()


def _model_config(spec: ModelSpec, layout: Placed) -> bytes:
    """TorchServe's own settings of the model; it ignores unknown keys and only warns of wrong types."""
    device = {"cpu": "cpu", "cuda": "gpu", "auto": None}[spec.device]
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


def _card(spec: ModelSpec, snapshot: Snapshot, layout: Placed) -> ServingCard:
    try:
        return ServingCard(
            model=spec.name,
            version=spec.version,
            revision=snapshot.revision,
            kit=importlib.metadata.version("embedkit"),
            device=spec.device,
            dtype=spec.dtype,
            backend="torch",
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


def _versions() -> dict[str, str]:
    """Versions of what computes vectors, read from the installed metadata: nothing heavy is imported."""
    versions = {}
    for name in RECORDED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise PackError(f"{name} is not installed here, so no archive can be made for it: run `make up`") from error
    return versions
