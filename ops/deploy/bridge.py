"""Folders in the store that TorchServe registers instead of an archive: it links to them and unpacks nothing.

The version that TorchServe knows is the one in MAR-INF/MANIFEST.json; there alone a folder differs from its archive.
"""

import os
import shutil
from pathlib import Path

import orjson

from archives.archive import opened
from archives.skeleton import TORCHSERVE_MANIFEST
from ops.deploy.plan import bridge_name
from ops.desired import Served
from ops.settings import Settings


def unpack(settings: Settings, one: Served) -> str:
    """Unpack a served archive under its bridge's name; returns the folder's name in the store.

    Raises:
        ArchiveError: the archive is not whole.
    """
    name = f"{one.model}-{bridge_name(one)}"
    target, beside = settings.served / name, settings.served / f".{name}.{os.getpid()}"
    if not target.exists():
        try:
            with opened(settings.served / one.archive) as archive:
                archive.extractall(beside)
            _rename_version(beside / TORCHSERVE_MANIFEST, bridge_name(one))
            beside.replace(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return name


def _rename_version(manifest: Path, version: str) -> None:
    content = orjson.loads(manifest.read_bytes())
    content["model"]["modelVersion"] = version
    manifest.write_bytes(orjson.dumps(content))
