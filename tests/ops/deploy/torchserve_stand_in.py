"""A small server in TorchServe's place: versions of one model, which it takes from the archives in its model store, and
refuses as TorchServe does. An archive's vector is a member of it."""

import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from archives.plan import CONFIG_NAME, ENTRY_NAME, MANIFEST_NAME
from archives.skeleton import TORCHSERVE_MANIFEST
from archives.store import archive_path, verification_path
from handlers.card import CARD_NAME
from ops.desired import desired_file, read_models
from ops.settings import Settings
from ops.torchserve.launcher import servable

VECTOR = "vector.json"
TIMES = {"responseTimeout": 5, "startupTimeout": 5, "maxBatchDelay": 0}


def write_archive(settings: Settings, model: str, version: str, vector: list[float]) -> None:
    """A packed and verified archive, as far as it is read without a worker."""
    path = archive_path(settings.store, model, version)
    path.unlink(missing_ok=True)
    about = {"modelName": model, "modelVersion": version, "handler": ENTRY_NAME}
    members = dict.fromkeys((ENTRY_NAME, CARD_NAME, MANIFEST_NAME), b"") | {
        TORCHSERVE_MANIFEST: orjson.dumps({"runtime": "python", "model": about}),
        CONFIG_NAME: b"minWorkers: 1\ndeviceType: cpu\n",
        VECTOR: orjson.dumps(vector),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # the same bytes at any time
    seen = {"archive_sha256": "", "verified_at": "", "fingerprint": "", "dimensions": len(vector), "min_cosine": 1.0}
    verification_path(path).write_bytes(orjson.dumps({**seen, "texts": ["a text"], "vectors": [vector]}))


@dataclass
class Version:
    """`archive` is what it was registered from; `vector` what it answers, none where it has no worker."""

    name: str
    archive: str
    vector: list[float] | None


@dataclass
class TorchServe:
    """The versions of the model, the default one first."""

    settings: Settings
    versions: list[Version] = field(default_factory=list)

    def restart(self) -> None:
        """As the launcher and the JVM do after a crash: the desired archives, where they are what was verified."""
        desired = read_models(desired_file(self.settings))
        self.versions = [self._load(one.archive) for one in servable(self.settings, desired).values()]

    def answer(self, method: str, url: str) -> tuple[int, Any]:
        """Status and body of one request, to whichever port."""
        split = urlsplit(url)
        match method, split.path.strip("/").split("/"):
            case "GET", ["models", _]:
                return self._described(self.versions[:1])
            case "GET", ["models", _, "all"]:
                return self._described(self.versions[1:] + self.versions[:1])  # in no order
            case "GET", ["models", _, name]:
                return self._described([one for one in self.versions if one.name == name])
            case "POST", ["models"]:
                return self._register(parse_qs(split.query)["url"][0])
            case "PUT", ["models", _, name, "set-default"]:
                if not any(one.name == name for one in self.versions):
                    return self._said(404)
                self.versions.sort(key=lambda one: one.name != name)
                return self._said(200)
            case "DELETE", ["models", _, name]:
                return self._unregister(name)
            case "POST", ["predictions", _, *names]:
                return self._predicted(names[0] if names else None)
        return self._said(405)

    def _load(self, archive: str) -> Version:
        with zipfile.ZipFile(self.settings.served / archive) as file:
            about = orjson.loads(file.read(TORCHSERVE_MANIFEST))["model"]
            vector = orjson.loads(file.read(VECTOR)) if VECTOR in file.namelist() else None
        return Version(about["modelVersion"], archive, vector)

    def _register(self, archive: str) -> tuple[int, Any]:
        try:
            loaded = self._load(archive)
        except FileNotFoundError:
            return self._said(404)
        if any(one.name == loaded.name for one in self.versions):
            return self._said(409)
        self.versions.append(loaded)
        return self._said(202)

    def _unregister(self, name: str) -> tuple[int, Any]:
        if not any(one.name == name for one in self.versions):
            return self._said(404)
        if self.versions[0].name == name and len(self.versions) > 1:
            return self._said(403)  # the default goes last
        self.versions = [one for one in self.versions if one.name != name]
        return self._said(200)

    def _predicted(self, name: str | None) -> tuple[int, Any]:
        asked = [one for one in self.versions if one.name == name] if name else self.versions[:1]
        if not asked:
            return self._said(404)
        vector = asked[0].vector
        return (200, {"data": [{"embedding": vector}]}) if vector else self._said(503)

    def _described(self, versions: list[Version]) -> tuple[int, Any]:
        if not versions:
            return self._said(404)
        workers = [{"id": "9000", "status": "READY", "pid": 1}]
        about = {"modelName": "m", "minWorkers": 1, "batchSize": 1, "workers": workers, **TIMES}
        return 200, [{**about, "modelVersion": one.name, "modelUrl": one.archive} for one in versions]

    @staticmethod
    def _said(status: int) -> tuple[int, Any]:
        return status, {"code": status, "message": "torchserve's"}


class _Handler(BaseHTTPRequestHandler):
    torchserve: TorchServe

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.torchserve.answer(self.command, self.path)
        content = orjson.dumps(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(torchserve: TorchServe) -> Iterator[TorchServe]:
    """It listens on its inference and management ports until the block ends."""
    handler = type("Handler", (_Handler,), {"torchserve": torchserve})
    ports = (torchserve.settings.inference_port, torchserve.settings.management_port)
    servers = [ThreadingHTTPServer(("127.0.0.1", port), handler) for port in ports]
    threads = [threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}) for one in servers]
    for thread in threads:
        thread.start()
    try:
        yield torchserve
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
