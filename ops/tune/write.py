"""Chosen values into models.toml, comments and layout kept.

python -m ops.tune.write archives/models.toml MODEL workers=2    as `embedkit doctor` names it
"""

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import tomlkit
from tomlkit.items import Table

from archives.store import write_whole
from ops.errors import OpsError
from ops.tune.space import Candidate


def changes(current: Candidate, chosen: Candidate) -> dict[str, int]:
    """The keys whose value differs from what models.toml means now; workers and threads go together, as `auto` of one
    depends on the other.
    """
    differ = {key: value for key, value in vars(chosen).items() if getattr(current, key) != value}
    if differ.keys() & {"workers", "threads"}:
        differ |= {"workers": chosen.workers, "threads": chosen.threads}
    return {key: differ[key] for key in vars(chosen) if key in differ}


def rewrite(text: str, model: str, values: Mapping[str, int | str]) -> str:
    """models.toml's text with these keys of one model set; new ones follow the last key of its table.

    Raises:
        OpsError: the model's table is written in a way in which no key can be set without touching more.
    """
    document = tomlkit.parse(text)
    table = document[model]
    for key, value in values.items():
        last = _last_key(table) if isinstance(table, Table) and key not in table else None
        if last is None:
            table[key] = value
        else:
            # Appended, it would land behind the comment that stands above the next model.
            table.value._insert_after(last, key, tomlkit.item(value))
    made = tomlkit.dumps(document)
    wanted = tomllib.loads(text)
    wanted[model] |= values
    if tomllib.loads(made) != wanted:
        raise OpsError(
            f"models.toml: [{model}] cannot be changed without touching more: set "
            + ", ".join(f"{key} = {value}" for key, value in values.items())
            + " by hand"
        )
    return made


def _last_key(table: Table) -> str | None:
    """The last key of the table itself, tables below it left out."""
    keys = [key for key, item in table.value.body if key is not None and not isinstance(item, Table)]
    return keys[-1].key if keys else None


def write(path: Path, model: str, values: Mapping[str, int | str]) -> None:
    """Set these keys of a model in the file, which appears as a whole.

    Raises:
        OpsError: the model is no longer in it, or its table cannot be changed alone.
    """
    text = path.read_bytes().decode("utf-8")
    if model not in tomllib.loads(text):
        raise OpsError(f"{path}: {model} is no longer in it; nothing was written")
    write_whole(path, rewrite(text, model, values).encode())


def main() -> int:
    if len(sys.argv) < 4 or not all("=" in word for word in sys.argv[3:]):
        print("usage: python -m ops.tune.write archives/models.toml MODEL KEY=VALUE…", file=sys.stderr)
        return 2
    pairs = (word.split("=", 1) for word in sys.argv[3:])
    try:
        write(Path(sys.argv[1]), sys.argv[2], {key: int(value) if value.isdigit() else value for key, value in pairs})
    except (OpsError, OSError, ValueError) as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
