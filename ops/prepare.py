"""From a model's name to a verified archive, doing only what is not done yet."""

import hashlib
from dataclasses import dataclass

from archives.catalogue import ModelSpec, find, load_catalogue
from archives.errors import ArchivesError, DamagedError
from archives.fetch import fetch, find_snapshot
from archives.pack import LockInfo, PackedArchive, pack
from archives.placement import Layout, Need, layout, need
from archives.progress import Progress
from archives.snapshot import Snapshot
from archives.sources import HubSource
from archives.store import archive_locked, archive_path
from archives.verify import Verification, read_verification, verify
from env.chooser import installed
from env.hardware import Hardware, detect
from ops.desired import Served, desired_file, read_models
from ops.probe import Reference
from ops.served import publish, published
from ops.settings import Settings


@dataclass(frozen=True)
class Prepared:
    """A model whose archive is whole and verified. `need` is what its workers will take."""

    served: Served
    reference: Reference
    need: Need


def lock_info() -> LockInfo:
    """The lock this environment was made from, for the archive's manifest."""
    choice = installed()
    return LockInfo(choice.flavour, hashlib.sha256(choice.lock.read_bytes()).hexdigest())


def spec_of(settings: Settings, model: str) -> ModelSpec:
    """The model's entry in models.toml.

    Raises:
        CatalogueError: models.toml is wrong, or has no such model.
    """
    return find(load_catalogue(settings.models_file), model)


def reference_of(verification: Verification) -> Reference:
    """The first reference text and its vector, for probes."""
    return Reference(verification.texts[0], tuple(verification.vectors[0]), verification.min_cosine)


def fetch_model(settings: Settings, model: str, progress: Progress, *, refresh: bool = False) -> Snapshot:
    return fetch(spec_of(settings, model), settings.store, progress=progress, refresh=refresh)


def _pack(
    spec: ModelSpec, settings: Settings, placed: Layout, progress: Progress, *, anew: bool = False
) -> tuple[Snapshot, PackedArchive]:
    def once() -> tuple[Snapshot, PackedArchive]:
        snapshot = fetch(spec, settings.store, progress=progress)
        made = pack(spec, snapshot, placed, settings.store, lock=lock_info(), progress=progress, anew=anew)
        return snapshot, made

    try:
        return once()
    except DamagedError as error:
        if not isinstance(spec.source, HubSource):
            raise
        progress.say(f"{spec.name}: {error}")
        return once()


def pack_model(settings: Settings, model: str, progress: Progress, *, anew: bool = False) -> PackedArchive:
    spec = spec_of(settings, model)
    with archive_locked(settings.store, model):
        return _pack(spec, settings, layout(spec, detect()), progress, anew=anew)[1]


def verify_model(settings: Settings, model: str, progress: Progress) -> Verification:
    spec = spec_of(settings, model)
    try:
        snapshot = find_snapshot(spec, settings.store)
    except ArchivesError:  # the archive may have come here without what it was made of
        snapshot = None
    with archive_locked(settings.store, model):
        return verify(archive_path(settings.store, spec.name, spec.version), snapshot=snapshot, progress=progress)


def prepare(spec: ModelSpec, settings: Settings, hardware: Hardware, progress: Progress) -> Prepared:
    """Fetch, pack and verify a model, each only where it is not done.

    Raises:
        ArchivesError: the step that failed says why.
    """
    placed = layout(spec, hardware)
    with archive_locked(settings.store, spec.name):
        snapshot, packed = _pack(spec, settings, placed, progress)
        if packed.changed:
            progress.say(f"{spec.name}: packed {packed.path.name}, {packed.path.stat().st_size >> 20} MB")
        verification = read_verification(packed.path)
        if verification is None or verification.archive_sha256 != packed.sha256:
            progress.say(f"{spec.name}: verifying the archive in a process of its own")
            verification = verify(packed.path, snapshot=snapshot, progress=progress)
        served = publish(settings, spec.name, spec.version, packed)
    engine = packed.manifest["engine"]
    decided = spec.model_copy(update={"backend": engine["backend"], "dtype": engine["dtype"]})
    return Prepared(served, reference_of(verification), need(decided, placed.on(engine["device"]), snapshot.parameters))


def known_references(settings: Settings) -> tuple[dict[str, Served], dict[str, Reference]]:
    """The desired models, and the references of those that were verified here."""
    desired = read_models(desired_file(settings))
    references = {}
    for name, one in desired.items():
        _, verification = published(settings, one)
        if verification is not None:
            references[name] = reference_of(verification)
    return desired, references
