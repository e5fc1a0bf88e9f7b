"""A handler behind TorchServe's own worker code, spoken to in the frontend's wire protocol.

Requests go through ts.protocol.otf_message_handler.retrieve_msg and ts.service.Service.predict, so that what
would end a real worker ends the test.
"""

import socket
import struct
import threading
import time
import warnings
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.protocol.otf_message_handler import retrieve_msg
from ts.service import Service

from handlers.base import EmbeddingHandler
from handlers.card import ServingCard

JSON = "application/json"


@dataclass(frozen=True)
class Sent:
    """One request as the frontend hands it on: headers, and (name, content type, content) of each body part."""

    parts: list[tuple[str, str, bytes]]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One answer as the frontend gets it."""

    status: int
    phrase: str
    content_type: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def vectors(self) -> list[list[float]]:
        return [item["embedding"] for item in self.json["data"]]


def json_body(value: object, **headers: str) -> Sent:
    """A request with this JSON value and a Content-Type."""
    return raw_body(orjson.dumps(value), **{"Content-Type": JSON, **headers})


def raw_body(content: bytes, **headers: str) -> Sent:
    """A request with this body; underscores in header names stand for dashes, but for url_path's own."""
    named = {name if name == "url_path" else name.replace("_", "-"): value for name, value in headers.items()}
    media_type = named.get("Content-Type", "").partition(";")[0].strip()
    return Sent([("body", media_type, content)], named)


def unpack(folder: Path, model: Path, *, converted: Path | None = None, **card: Any) -> Path:
    """A folder like an unpacked archive: the card, and the model (by reference), converted for OpenVINO where given."""
    folder.mkdir(parents=True, exist_ok=True)
    if converted is not None:
        (folder / "openvino").symlink_to(converted / "openvino")
        card = {"backend": "openvino", "device": "cpu", **card}
    identity = {"model": "tested", "version": "1.0", "revision": "0123456789abcdef", "kit": "0.1.0"}
    (folder / "embedkit.json").write_bytes(ServingCard(**{**identity, **card}).to_json())
    (folder / "model").symlink_to(model)
    return folder


class Worker:
    """One handler, loaded from an unpacked folder; `name` is what TorchServe registered it as, `timeout_s` the
    responseTimeout of its model-config.yaml. `took_s`: how long the last batch was in it."""

    took_s: float

    def __init__(
        self,
        handler: EmbeddingHandler,
        folder: Path,
        *,
        name: str = "tested",
        gpu: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # TorchServe leaves the file open
            metrics = MetricsCacheYamlImpl(config_file_path=str(files("ts") / "configs" / "metrics.yaml"))
            metrics.initialize_cache()
        self.handler = handler
        self._service = Service(name, str(folder), {}, handler.handle, gpu, 64, metrics_cache=metrics)
        self._service.set_cl_socket(None)
        if timeout_s is not None:
            self._service.context.model_yaml_config = {"responseTimeout": timeout_s}
        handler.initialize(self._service.context)

    def ask(self, *requests: Sent) -> list[Answer]:
        """The answers to one batch."""
        batch = _through_a_socket(_encode(requests))
        started = time.monotonic()
        message = self._service.predict(batch)
        self.took_s = time.monotonic() - started
        return _decode(message)

    def ask_one(self, request: Sent) -> Answer:
        """The answer to a batch of one."""
        (answer,) = self.ask(request)
        return answer


def _through_a_socket(message: bytes) -> Any:
    frontend, backend = socket.socketpair()
    with frontend, backend:
        sender = threading.Thread(target=frontend.sendall, args=(message,))
        sender.start()
        _, batch = retrieve_msg(backend)
        sender.join()
    return batch


def _field(content: bytes) -> bytes:
    return struct.pack("!i", len(content)) + content


def _encode(requests: tuple[Sent, ...]) -> bytes:
    end = struct.pack("!i", -1)
    message = b"I"
    for number, request in enumerate(requests):
        message += _field(f"request-{number}".encode())
        for name, value in request.headers.items():
            message += _field(name.encode()) + _field(value.encode())
        message += end
        for part, content_type, content in request.parts:
            message += _field(part.encode()) + _field(content_type.encode()) + _field(content)
        message += end
    return message + end


class _Reader:
    def __init__(self, message: bytes) -> None:
        self._message, self._at = message, 0

    def number(self) -> int:
        (value,) = struct.unpack_from("!i", self._message, self._at)
        self._at += 4
        return int(value)

    def content(self, length: int) -> bytes:
        self._at += length
        return bytes(self._message[self._at - length : self._at])

    def text(self) -> str:
        return self.content(self.number()).decode()


def _decode(message: bytes) -> list[Answer]:
    reader = _Reader(message)
    code, said = reader.number(), reader.text()
    assert (code, said) == (200, "Prediction success"), "TorchServe failed the whole batch"
    answers = []
    while (length := reader.number()) != -1:
        reader.content(length)
        content_type, status, phrase = reader.text(), reader.number(), reader.text()
        headers = {reader.text(): reader.text() for _ in range(reader.number())}
        answers.append(Answer(status, phrase, content_type, headers, reader.content(reader.number())))
    return answers
