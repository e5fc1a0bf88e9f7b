"""The running deployment that is measured: its archive, what it is configured to, its workers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from archives.archive import read_archive, read_config
from archives.catalogue import find, load_catalogue
from archives.fetch import find_snapshot
from archives.plan import MODEL_FOLDER
from archives.snapshot import hash_file
from handlers.card import ServingCard
from ops.desired import desired_file, read_models
from ops.embed import served_model
from ops.errors import OpsError
from ops.prepare import reference_of
from ops.probe import Reference
from ops.served import published
from ops.settings import Settings
from ops.torchserve.management import Management


@dataclass(frozen=True)
class Service:
    """One served model. `config` is what TorchServe was given for it, `manifest` the archive's own words on where it
    comes from; `sha256` is the archive's.
    """

    model: str
    archive: Path
    sha256: str
    card: ServingCard
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    reference: Reference

    @property
    def queue_size(self) -> int:
        return int(self.config["jobQueueSize"])

    @property
    def batch_size(self) -> int:
        return int(self.config["batchSize"])

    @property
    def max_batch_delay_s(self) -> float:
        return float(self.config["maxBatchDelay"]) / 1000

    def about(self) -> dict[str, Any]:
        """For the result: everything that says what was served, and no path."""
        kept = ("kit", "version", "revision", "source", "lock", "versions", "trained_with")
        return {
            "model": self.model,
            "fingerprint": self.card.fingerprint,
            "archive": self.archive.name,
            "sha256": self.sha256,
            "card": asdict(self.card),
            "torchserve": dict(self.config),
            **{key: self.manifest[key] for key in kept},
        }


def find_service(settings: Settings, model: str | None) -> Service:
    """The served model, the archive being the one that was verified.

    Raises:
        OpsError: nothing is served, not this model, or the archive was replaced or not verified since.
        ArchiveError: the archive in the store is damaged.
    """
    name = served_model(settings, model)
    served = read_models(desired_file(settings))[name]
    path, verification = published(settings, served)
    archive = read_archive(path)
    if hash_file(path).sha256 != served.sha256 or verification is None or verification.archive_sha256 != served.sha256:
        raise OpsError(
            f"{path} is not the verified archive that is served now, so a comparison with it would mean nothing: "
            f"run `embedkit up {name}`"
        )
    return Service(
        name, path, served.sha256, archive.card, read_config(path), archive.manifest, reference_of(verification)
    )


def whole_model(settings: Settings, service: Service, unpacked: Path) -> Path:
    """The model's folder with its own weights, for plain sentence-transformers: in the unpacked archive, or, where the
    archive serves from a conversion and leaves the weights out, links beside it to the files it was made of.

    Raises:
        OpsError: those files are not here any more, or are others by now.
        ArchivesError: models.toml or the model's source cannot be read.
    """
    left_out = service.manifest.get("left_out")
    if not left_out:
        return unpacked / MODEL_FOLDER
    snapshot = find_snapshot(find(load_catalogue(settings.models_file), service.model), settings.store)
    if snapshot is None:
        raise OpsError(f"{service.model}: its own weights are not in the store: run `embedkit fetch {service.model}`")
    folder = unpacked.parent / "whole"
    for name, entry in snapshot.served.items():
        known = left_out.get(f"{MODEL_FOLDER}/{name}") or service.manifest["files"].get(f"{MODEL_FOLDER}/{name}") or {}
        if known.get("sha256") != entry.sha256:
            raise OpsError(
                f"{snapshot.root / name} is not the file that the served archive was made of: "
                f"run `embedkit up {service.model}`"
            )
    snapshot.lay_out(folder)
    return folder


def worker_pids(settings: Settings, model: str) -> tuple[int, ...]:
    """The pids of the ready workers of the model's default version, rising.

    Raises:
        OpsError: the management API does not answer.
    """
    loaded = Management(settings).describe(model)
    return tuple(sorted(worker.pid for worker in loaded[0].workers if worker.ready)) if loaded else ()


def resident_memory(pids: tuple[int, ...]) -> dict[int, int]:
    """pid → bytes, for those that live."""
    found = {}
    for pid in pids:
        try:
            found[pid] = int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            continue
    return found
