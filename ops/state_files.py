"""The form of the files in var/state: JSON with a schema version, read across versions of the kit in both directions.

An update in place, or the way back from one, leaves files of another version to programs that have to run with them.
So a reader ignores what it does not know and takes the default for what is missing. A key never changes its meaning: a
new meaning gets a new key, and what the reader cannot do without makes the file a damaged one.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import orjson

from archives.store import write_whole

T = TypeVar("T")

SCHEMA = 1  # counted up where a key comes or goes; the files before it carried none


def write_state(path: Path, content: Mapping[str, Any], *, mode: int = 0o644) -> None:
    """Replace a state file as a whole."""
    written = {"schema": SCHEMA, **content}
    write_whole(path, orjson.dumps(written, option=orjson.OPT_INDENT_2), mode=mode)


def read_state(path: Path) -> dict[str, Any]:
    """What the file holds, whichever version wrote it, without its schema version.

    Raises:
        OSError: it cannot be read; FileNotFoundError where there is none.
        ValueError: it is not a JSON object.
    """
    content = orjson.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"a JSON object is expected, not a {type(content).__name__}")  # noqa: TRY004 - damaged, as no JSON is
    content.pop("schema", None)
    return content


def known_to(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from those of the values that it has fields for.

    Raises:
        TypeError: a field without a default is missing, or `values` is no mapping.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in dict(values).items() if name in names})
