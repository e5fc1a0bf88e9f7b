"""The serving card: what an archive says about the model it carries and how to serve it.

It lies in the archive as `embedkit.json`, written when the archive is packed, read when a worker loads it.
"""

import dataclasses
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson

CARD_NAME = "embedkit.json"

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16", "float16"]
Backend = Literal["torch", "openvino"]

# These four become part of an HTTP header (the fingerprint): printable ASCII without spaces.
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:/@-]{0,199}")


class CardError(ValueError):
    """A serving card that cannot be used; the message names the file and the key."""


@dataclass(frozen=True, slots=True)
class ServingCard:
    """What is served, on what, and within which limits.

    `threads` are those that compute in one worker on CPU; `max_tokens` a cap below the model's own limit
    (special tokens included); `max_chars` characters, or token ids, of one text; `max_body_bytes` is meant
    after decompression; `token_budget` padded tokens of one forward pass; `max_request_tokens` those of one
    request at most, fewer where the machine is slow (admission.py); `prompts` texts put before each
    text of a request that names them in `prompt_name`. With `batch_invariant` a text's vector has the same bits
    whatever shares its batch. `decision` says in words how backend and dtype were chosen, with the figures.

    Raises CardError for a value out of range.
    """

    model: str
    version: str
    revision: str
    kit: str
    device: Device = "auto"
    dtype: Dtype = "float32"
    backend: Backend = "torch"
    batch_invariant: bool = False
    decision: str = ""
    threads: int = 1
    max_tokens: int | None = None
    max_texts: int = 2048
    max_chars: int = 1_000_000
    max_body_bytes: int = 32 * 1024 * 1024
    max_answer_bytes: int = 64 * 1024 * 1024
    token_budget: int = 16_384
    max_request_tokens: int = 524_288
    prompts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, hint in typing.get_type_hints(type(self)).items():
            _check(key, getattr(self, key), hint)
        if self.backend == "openvino" and (self.device != "cpu" or self.dtype == "float16"):
            raise CardError(
                f"backend = 'openvino' computes on the CPU (device = 'cpu') in float32 or bfloat16, "
                f"not on {self.device!r} in {self.dtype!r}"
            )
        for key in ("model", "version", "revision", "kit"):
            if _IDENTITY.fullmatch(getattr(self, key)) is None:
                raise CardError(
                    f"{key} = {getattr(self, key)!r}: letters, digits and ._+:/@- are allowed, 1 to 200 of them"
                )

    @property
    def fingerprint(self) -> str:
        """What made a vector, in one line of printable ASCII."""
        engine = f"{self.backend} {self.dtype}{' batch-invariant' if self.batch_invariant else ''}"
        return f"{self.model}/{self.version} rev={self.revision[:12]} {engine} kit={self.kit}"

    def to_json(self) -> bytes:
        """The card as the archive carries it: stable key order, a newline at the end."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def read(cls, path: Path) -> "ServingCard":
        """The card in this file.

        Raises CardError where the file cannot be read, is no JSON object, lacks a key, has an unknown one or
        a value of the wrong kind.
        """
        try:
            raw = orjson.loads(path.read_bytes())
        except OSError as error:
            raise CardError(f"{path}: {error.strerror or error}; pack the model again") from error
        except orjson.JSONDecodeError as error:
            raise CardError(f"{path}: not JSON ({error}); pack the model again") from error
        if not isinstance(raw, dict):
            raise CardError(f"{path}: a JSON object is expected, not {type(raw).__name__}")
        fields = dataclasses.fields(cls)
        if unknown := sorted(raw.keys() - {each.name for each in fields}):
            raise CardError(f"{path}: unknown key {unknown[0]!r}: made by another version of the kit? Pack again")
        required = {each.name for each in fields if each.default is each.default_factory}  # both MISSING
        if missing := sorted(required - raw.keys()):
            raise CardError(f"{path}: key {missing[0]!r} is missing; pack the model again")
        try:
            return cls(**raw)
        except CardError as error:
            raise CardError(f"{path}: {error}") from None


def _check(key: str, value: object, hint: object) -> None:
    if typing.get_origin(hint) is Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise CardError(f"{key} = {value!r}: one of {', '.join(allowed)} is expected")
    elif typing.get_origin(hint) is dict:
        if not isinstance(value, dict) or not all(
            isinstance(name, str) and isinstance(text, str) for name, text in value.items()
        ):
            raise CardError(f"{key} = {value!r}: a table of texts by name is expected")
    elif hint is bool:
        if not isinstance(value, bool):
            raise CardError(f"{key} = {value!r}: true or false is expected")
    elif hint is str:
        if not isinstance(value, str):
            raise CardError(f"{key} = {value!r}: a text is expected")
    else:
        optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
        if optional and value is None:
            return
        if type(value) is not int or value < 1:
            raise CardError(f"{key} = {value!r}: a whole number from 1 up is expected")
