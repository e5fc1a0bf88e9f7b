"""models.toml → ModelSpec: what can be served, validated, with every default in one place."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from archives.errors import CatalogueError
from archives.sources import FolderSource, HubSource, PackageSource, Source

NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
# ops/torchserve/config.py sets TorchServe's own limits above these: beyond its limit a request gets a bare 413, and an
# answer ends the worker.
MOST_BODY_BYTES, MOST_ANSWER_BYTES = 32 << 20, 120 << 20
# TorchServe unpacks into a temp folder of this name: a model called so wipes what the others live from.
RESERVED_NAMES = frozenset({"models"})

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]


class ModelSpec(BaseModel):
    """One model of the catalogue. Sizes in bytes, times as the names say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    source: Source = Field(description="where the files come from")
    handler: Literal["sentence", "bge", "tao_8k"] = Field("sentence", description="which of handlers/ serves it")
    version: str = Field("1.0", pattern=r"^[A-Za-z0-9_.]{1,32}$", description="part of the URL")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda without a usable GPU is an error")
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="what computes; openvino is for the CPU; auto is decided once, when the model is packed"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="what the forward pass computes in; auto takes the fastest that gives float32's vectors (cosine "
        "0.999), once, when the model is packed",
    )
    batch_invariant: bool = Field(
        False, description="the same text gives the same bits whatever shares its batch; costs some throughput"
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Auto = Field("auto", description="processes that serve it")
    threads: Annotated[int, Field(ge=1, le=256)] | Auto = Field(
        "auto", description="threads of a worker: they compute on the CPU, and tokenize for a GPU"
    )
    batch_size: Annotated[int, Field(ge=1, le=1024)] = Field(32, description="requests computed as one batch")
    # One worker at a time collects, and holds up the others for as long: at 16 connections 2 ms give one of two workers
    # everything (docs/batching.md).
    max_batch_delay_ms: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="longest wait for a batch to fill, best below 10; TorchServe reads 0 as 100, so 0 is refused"
    )
    queue_size: Count = Field(256, description="requests that may wait; beyond it they get a 503")
    response_timeout_s: Count = Field(60, description="a worker that has not answered by then is replaced")
    startup_timeout_s: Count = Field(300, description="a worker that has not loaded by then is replaced")
    max_texts: Count = Field(2048, description="texts a request")
    max_chars: Count = Field(100_000, description="characters a text")
    max_tokens: Annotated[int, Field(ge=3)] | None = Field(
        None, description="cap below the model's own limit; left out: the model's own"
    )
    max_body_bytes: Annotated[int, Field(ge=1024, le=MOST_BODY_BYTES)] = Field(
        32 << 20, description="a request's body, after decompression"
    )
    max_answer_bytes: Annotated[int, Field(ge=1024, le=MOST_ANSWER_BYTES)] = Field(
        64 << 20, description="an answer's body"
    )
    token_budget: Annotated[int, Field(ge=16)] = Field(16_384, description="padded tokens a forward pass")
    max_request_tokens: Annotated[int, Field(ge=16)] = Field(
        524_288,
        description="tokens a request at most; fewer where a worker measures at load that it could not compute them in "
        "half of response_timeout_s",
    )
    prompts: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], str] = Field(
        default_factory=dict, description="prompt_name → what is put before each text"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.dtype == "float16" and self.device == "cpu":
            raise ValueError("dtype: float16 needs a GPU: take float32 or bfloat16, or another device")
        if self.backend == "openvino" and self.device == "cuda":
            raise ValueError("backend: openvino computes on the CPU: take torch, or another device")
        if self.backend == "openvino" and self.dtype == "float16":
            raise ValueError("dtype: float16 needs a GPU, and openvino computes on the CPU: take float32 or bfloat16")
        if self.max_tokens is not None and self.token_budget < self.max_tokens:
            raise ValueError(f"token_budget: {self.token_budget} is below max_tokens = {self.max_tokens}")
        return self

    @property
    def archive_name(self) -> str:
        """File name of its archive in the store."""
        return f"{self.name}-{self.version}.mar"


def _key(location: Iterable[int | str]) -> str:
    """("source", "hub", "revision") → source.revision: the second is pydantic's tag of the kind of source."""
    parts = [str(part) for part in location if part not in {"int", "constrained-int", "function-after"}]
    if parts[:1] == ["source"] and parts[1:2] in (["hub"], ["folder"], ["package"]):
        parts = ["source", *parts[2:]]
    return ".".join(part for part in parts if not part.startswith(("literal[", "constrained")))


def _known_keys(error_at: tuple[int | str, ...]) -> Iterable[str]:
    if error_at[:1] == ("source",):
        kinds: dict[int | str, type[BaseModel]] = {
            "hub": HubSource,
            "folder": FolderSource,
            "package": PackageSource,
        }
        return kinds[error_at[1]].model_fields
    return ModelSpec.model_fields.keys() - {"name"}


def _explain(error: ValidationError) -> str:
    """One line a key: the key, its value, what is allowed."""
    lines: dict[str, str] = {}
    for one in error.errors(include_url=False):
        where = one["loc"]
        key = _key(where)
        if one["type"] == "extra_forbidden":
            known = sorted(_known_keys(where))
            near = difflib.get_close_matches(str(where[-1]), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            lines[key] = f"{key}: unknown key; {hint}"
            continue
        if one["type"] == "missing":
            lines[key] = f"{key}: missing"
            continue
        message = one["msg"].removeprefix("Value error, ")
        if not where:  # a rule over several keys, which names them itself
            lines[message] = message
        elif key in lines:  # another branch of a union: int | "auto"
            lines[key] += f", or {message[0].lower()}{message[1:]}"
        else:
            field = ModelSpec.model_fields.get(key)
            why = f" ({field.description})" if field and field.description else ""
            lines[key] = f"{key} = {one['input']!r}{why}: {message}"
    return "\n".join(lines.values())


def _spec(name: str, entry: object, file: Path) -> ModelSpec:
    if NAME.fullmatch(name) is None or name in RESERVED_NAMES:
        raise CatalogueError(
            f"{file}: model name {name!r}: 1 to 64 letters, digits and underscores are allowed, "
            f"and not {', '.join(sorted(RESERVED_NAMES))}"
        )
    if not isinstance(entry, dict):
        raise CatalogueError(f"{file}: {name} = {entry!r}: a table is expected, begun by [{name}]")
    if "name" in entry:
        raise CatalogueError(f"{file}: [{name}] name: unknown key; the table's own name, {name}, is the model's")
    if isinstance(entry.get("source"), dict) and isinstance(entry["source"].get("folder"), str):
        folder = (file.resolve().parent / Path(entry["source"]["folder"]).expanduser()).resolve()
        entry = entry | {"source": entry["source"] | {"folder": folder}}
    try:
        return ModelSpec(name=name, **entry)
    except ValidationError as error:
        raise CatalogueError("\n".join(f"{file}: [{name}] {line}" for line in _explain(error).splitlines())) from error


def load_catalogue(path: Path) -> dict[str, ModelSpec]:
    """Read models.toml.

    Returns: name → spec, in the file's order.

    Raises:
        CatalogueError: the file cannot be read, or an entry is wrong; names file, model, key, value, what is allowed.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CatalogueError(f"{path}: no such file; it lists the models that can be served") from error
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: not TOML: {error}") from error
    if not tables:
        raise CatalogueError(f"{path}: no model in it; add a table such as [minilm] with a source")
    return {name: _spec(name, entry, path) for name, entry in tables.items()}


def find(catalogue: Mapping[str, ModelSpec], name: str) -> ModelSpec:
    """The model of that name.

    Raises:
        CatalogueError: there is none; says which one was probably meant.
    """
    if name in catalogue:
        return catalogue[name]
    folded = {known.lower(): known for known in catalogue}
    near = difflib.get_close_matches(name.lower().replace("-", "_").rpartition("/")[2], folded, n=1)
    hint = f"did you mean {folded[near[0]]}?" if near else f"known: {', '.join(catalogue)}"
    raise CatalogueError(f"no model {name!r} in models.toml; {hint}")
