"""Archives made for a change: TorchServe knows a version by MAR-INF/MANIFEST.json, and loads no version twice.

They are files, as it loads folders by linking to them, which the service may not do (ops/torchserve/confine.py). Their
names hold the deployment's id: another that shares the store makes its own.
"""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from archives.archive import opened
from archives.plan import ENTRY_NAME
from archives.skeleton import TORCHSERVE_MANIFEST
from ops.deploy.plan import bridge_name
from ops.desired import Served
from ops.served import appearing
from ops.settings import Settings
from ops.store_owners import identity

# A dash: no version of models.toml. It has no worker, so TorchServe answers 503 at once.
CLOSED = "closed-"


def bridge(settings: Settings, one: Served) -> str:
    """A served archive under its bridge's version; returns the file's name in the store.

    Raises:
        ArchiveError: the archive is not whole.
    """
    name = f"{one.archive.removesuffix('.mar')}-bridge-{identity(settings)}.mar"
    with _written(settings, name) as made, opened(settings.served / one.archive) as archive:
        for member in archive.infolist():
            if member.filename == TORCHSERVE_MANIFEST:
                content = orjson.loads(archive.read(member))
                content["model"]["modelVersion"] = bridge_name(one)
                made.writestr(member.filename, orjson.dumps(content))
            else:
                copy = zipfile.ZipInfo(member.filename)
                copy.file_size = member.file_size  # decides on the long form of its header
                with archive.open(member) as source, made.open(copy, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    return name


def closed(settings: Settings, model: str) -> str:
    """A version that answers nobody, to send new requests to; returns its file's name in the store."""
    name = f"{model}-{CLOSED}{identity(settings)}.mar"
    with _written(settings, name) as made:
        about = {"modelName": model, "modelVersion": CLOSED, "handler": ENTRY_NAME}
        made.writestr(TORCHSERVE_MANIFEST, orjson.dumps({"runtime": "python", "model": about}))
        made.writestr(ENTRY_NAME, b"")
    return name


@contextmanager
def _written(settings: Settings, name: str) -> Iterator[zipfile.ZipFile]:
    """An archive of stored members to fill, which then stands in the store in place of one of that name."""
    with appearing(settings, name) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as made:
        yield made
