"""A small stand-in for a Hugging Face hub: the API and the downloads that huggingface_hub asks for, with faults.

Large files (safetensors, bin) are answered as the hub answers them: a redirect whose headers carry the sha256, and
the content from another address, with Range.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".onnx"))


@dataclass
class HubStandIn:
    """One repository and what is to go wrong with it; `log` holds (method, path, Range, Authorization)."""

    repository: str
    files: dict[str, bytes]
    commit: str = COMMIT
    branches: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers with large content end
    ignore_range: bool = False
    alias: str = ""  # another spelling of the repository, redirected as the hub redirects
    hashes_listed: bool = True  # False: a mirror whose listing has names alone
    corrupt: str = ""  # a file sent with one byte changed
    refuse: tuple[int, str] | None = None  # (status, X-Error-Code) for whoever comes without the token
    token: str = ""
    log: list[tuple[str, str, str, str]] = field(default_factory=list)
    url: str = ""

    def paths(self, method: str) -> list[str]:
        """Paths asked for by this method, in order."""
        return [path for verb, path, _, _ in self.log if verb == method]

    def ranges(self) -> list[str]:
        """Range headers received, in order."""
        return [asked for _, _, asked, _ in self.log if asked]

    def resolve(self, revision: str) -> bool:
        return revision == self.commit or self.branches.get(revision) == self.commit

    def info(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            if not self.hashes_listed:
                siblings.append({"rfilename": name})
                continue
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
            if _is_large(name):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {"id": self.repository, "modelId": self.repository, "sha": self.commit, "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.log.append((self.command, path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if large := re.fullmatch(r"/large/(.+)", path):
            self._content(large[1], body)
            return
        if hub.alias and hub.alias in self.path:
            self._send(307, b"", {"Location": self.path.replace(hub.alias, hub.repository)}, body=body)
            return
        if hub.refuse and not (hub.token and self.headers.get("Authorization") == f"Bearer {hub.token}"):
            self._error(*hub.refuse)
            return
        if api := re.fullmatch(r"/api/models/(.+?)/revision/(.+)", path):
            if api[1] != hub.repository:
                self._error(404, "RepoNotFound")
            elif not hub.resolve(api[2]):
                self._error(404, "RevisionNotFound")
            else:
                self._send(200, json.dumps(hub.info()).encode(), {"Content-Type": "application/json"}, body=body)
            return
        file = re.fullmatch(rf"/{hub.repository}/resolve/([^/]+)/(.+)", path)
        if file is None or not hub.resolve(file[1]) or file[2] not in hub.files:
            self._error(404, "EntryNotFound")
        elif _is_large(file[2]):
            content = hub.files[file[2]]
            # Another host name, as the hub's own store has one: a token must not be sent there.
            where = hub.url.replace("127.0.0.1", "localhost")
            headers = {
                "Location": f"{where}/large/{file[2]}",
                "X-Repo-Commit": hub.commit,
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            }
            self._send(302, b"", headers, body=body)
        else:
            self._content(file[2], body)

    def _content(self, name: str, body: bool) -> None:
        hub, content = self.hub, self.hub.files[name]
        headers = {
            "X-Repo-Commit": hub.commit,
            "ETag": f'"{hashlib.sha1(b"blob %d" % len(content) + bytes(1) + content).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        if name == hub.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        status, start = 200, 0
        if (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) and not hub.ignore_range:
            status, start = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if body and _is_large(name) and hub.cuts:
            self._send(status, content[start:], headers, body=True, cut=hub.cuts.pop(0))
        else:
            self._send(status, content[start:], headers, body=body)

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code}, body=self.command == "GET")

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], *, body: bool, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


@contextmanager
def serving(hub: HubStandIn) -> Iterator[HubStandIn]:
    """Serve on a free port of the loopback until the block ends; `hub.url` is the endpoint."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def files_of(folder: Path) -> dict[str, bytes]:
    """A model folder as a repository's files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }
