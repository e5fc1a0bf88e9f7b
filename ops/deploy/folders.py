"""Folders in the store that TorchServe registers instead of an archive: it links to them and unpacks nothing.

The version that TorchServe knows is the one in MAR-INF/MANIFEST.json; there alone a folder differs from its archive.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from archives.archive import opened
from archives.plan import ENTRY_NAME
from archives.skeleton import TORCHSERVE_MANIFEST
from ops.deploy.plan import bridge_name
from ops.desired import Served
from ops.settings import Settings

# A dash: no version of models.toml. It has no worker, so TorchServe answers 503 at once.
CLOSED = "closed-"


def unpack(settings: Settings, one: Served) -> str:
    """Unpack a served archive under its bridge's name; returns the folder's name in the store.

    Raises:
        ArchiveError: the archive is not whole.
    """
    with _folder(settings, f"{one.model}-{bridge_name(one)}") as made, opened(settings.served / one.archive) as archive:
        archive.extractall(made)
        manifest = made / TORCHSERVE_MANIFEST
        content = orjson.loads(manifest.read_bytes())
        content["model"]["modelVersion"] = bridge_name(one)
        manifest.write_bytes(orjson.dumps(content))
    return f"{one.model}-{bridge_name(one)}"


def closed(settings: Settings, model: str) -> str:
    """A version that answers nobody, to send new requests to; returns its folder's name in the store."""
    with _folder(settings, f"{model}-{CLOSED}") as made:
        manifest = made / TORCHSERVE_MANIFEST
        manifest.parent.mkdir(parents=True)
        about = {"modelName": model, "modelVersion": CLOSED, "handler": ENTRY_NAME}
        manifest.write_bytes(orjson.dumps({"runtime": "python", "model": about}))
        (made / ENTRY_NAME).touch()  # of a folder that holds one folder alone TorchServe takes that one
    return f"{model}-{CLOSED}"


@contextmanager
def _folder(settings: Settings, name: str) -> Iterator[Path]:
    """An empty folder to fill, which then stands in the store in place of one of that name."""
    target, beside = settings.served / name, settings.served / f".{name}.{os.getpid()}"
    beside.mkdir(parents=True)
    try:
        yield beside
        shutil.rmtree(target, ignore_errors=True)
        beside.replace(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
