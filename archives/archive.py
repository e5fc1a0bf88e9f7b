"""Read archives: what they say of themselves, and what the store holds. Never unpacks, never runs what is in them."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import yaml

from archives.errors import ArchiveError
from archives.plan import CONFIG_NAME, ENTRY_NAME, FORMAT, MANIFEST_NAME
from handlers.card import CARD_NAME, CardError, ServingCard

_REQUIRED = ("MAR-INF/MANIFEST.json", ENTRY_NAME, CONFIG_NAME, CARD_NAME, MANIFEST_NAME)
_KEYS = (
    "kit",
    "model",
    "version",
    "revision",
    "source",
    "lock",
    "versions",
    "trained_with",
    "files",
    "inputs",
    "engine",
    "left_out",
)


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive as a zip, its member names checked.

    Raises:
        ArchiveError: it is not there, cut short, or has a member that would be written outside its folder.
    """
    try:
        file = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise ArchiveError(f"{path}: no such archive: run `embedkit pack`") from error
    except zipfile.BadZipFile as error:
        raise ArchiveError(f"{path}: not a whole archive ({error}): pack the model again") from error
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        _check_names(path, file)
        try:
            yield file
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise ArchiveError(f"{path}: damaged ({error}): pack the model again") from error


def _check_names(path: Path, file: zipfile.ZipFile) -> None:
    names = file.namelist()
    for info in file.infolist():
        parts = PurePosixPath(info.filename).parts
        link = (info.external_attr >> 16) & 0o170000 not in {0, 0o100000}
        if info.filename.startswith("/") or "\\" in info.filename or ".." in parts or ":" in info.filename or link:
            raise ArchiveError(f"{path}: member {info.filename!r} leads out of the archive: do not use this file")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ArchiveError(f"{path}: member {twice!r} is in it twice: do not use this file")
    if missing := [name for name in _REQUIRED if name not in names]:
        raise ArchiveError(f"{path}: {missing[0]} is missing, so it is no archive of this kit: pack the model again")


def _manifest(path: Path, file: zipfile.ZipFile) -> dict[str, Any]:
    try:
        manifest = orjson.loads(file.read(MANIFEST_NAME))
    except orjson.JSONDecodeError as error:
        raise ArchiveError(f"{path}: {MANIFEST_NAME} is not JSON ({error}): pack the model again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArchiveError(f"{path}: {MANIFEST_NAME} is of another version of the kit: pack the model again")
    if missing := [key for key in _KEYS if key not in manifest]:
        raise ArchiveError(f"{path}: {MANIFEST_NAME} lacks {missing[0]!r}: pack the model again")
    return manifest


def read_manifest(path: Path) -> dict[str, Any]:
    """What `embedkit-manifest.json` says.

    Raises:
        ArchiveError: the file is not a whole archive of this kit.
    """
    with opened(path) as file:
        return _manifest(path, file)


def read_config(path: Path) -> dict[str, Any]:
    """What `model-config.yaml` has TorchServe do.

    Raises:
        ArchiveError: the file is not a whole archive of this kit.
    """
    with opened(path) as file:
        config: dict[str, Any] = yaml.safe_load(file.read(CONFIG_NAME))
    return config


@dataclass(frozen=True)
class Archive:
    """An archive's own words: its manifest and its serving card."""

    path: Path
    manifest: Mapping[str, Any]
    card: ServingCard

    @property
    def model(self) -> str:
        return self.card.model

    @property
    def version(self) -> str:
        return self.card.version

    @property
    def fingerprint(self) -> str:
        return self.card.fingerprint


def read_archive(path: Path) -> Archive:
    """Manifest and card of an archive.

    Raises:
        ArchiveError: the file is not a whole archive of this kit, or is named for another model.
    """
    with opened(path) as file:
        manifest = _manifest(path, file)
        try:
            card = ServingCard(**orjson.loads(file.read(CARD_NAME)))
        except (orjson.JSONDecodeError, TypeError, CardError) as error:
            raise ArchiveError(f"{path}: {CARD_NAME} cannot be used ({error}): pack the model again") from error
    name = f"{card.model}-{card.version}"
    if path.name != f"{name}.mar" and not path.name.startswith(f"{name}-"):  # in service it carries its digest too
        raise ArchiveError(f"{path}: it holds {card.model} {card.version}: name it {name}.mar")
    return Archive(path, manifest, card)


def list_archives(store: Path) -> tuple[list[Archive], list[ArchiveError]]:
    """What the store holds: the archives by name, and what is wrong with the files that are none."""
    found, broken = [], []
    for path in sorted(store.glob("*.mar")):
        try:
            found.append(read_archive(path))
        except ArchiveError as error:
            broken.append(error)
    return found, broken
