"""`embedkit env update`: set pins and carry them everywhere, or change nothing.

All is done in a copy of the files that are concerned; they come back only when the copy holds together.
"""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from env.changes import Change, apply
from env.errors import PinError
from env.lock import uv
from env.pins import PROJECT, REST, read_pins
from env.places import GENERATED, check, generated
from env.repeats import CARRY, Mismatch, repeats

# What uv reads of a project; every other file is found by what repeats a pin.
INPUTS = (PROJECT, REST, "uv.lock", "README.md", "LICENSE")


@dataclass(frozen=True)
class Updated:
    """Files that were rewritten, and what is left for commands of its own."""

    files: list[str]
    left: list[Mismatch]


def update(root: Path, changes: Iterable[Change], sha256: str | None = None) -> Updated:
    """Carry the pins of the checkout at `root`, after these changes of them, to every place.

    Raises:
        PinError: a pin cannot be set, uv finds no set of versions, or a generated file is not one; nothing is changed.
    """
    files = {*INPUTS, *GENERATED, *(each.file for each in repeats(read_pins(root), root))}
    with tempfile.TemporaryDirectory(prefix="embedkit-pins-") as folder:
        copy = Path(folder)
        for file in files:
            if (root / file).exists():
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                (copy / file).write_bytes((root / file).read_bytes())
        indirect = apply(copy, changes, sha256)
        _carry(copy)
        uv(copy, "lock", *(word for each in indirect for word in ("--upgrade-package", each)))
        _generate(copy)
        left = check(copy)
        wrong = [each for each in left if each.mend == CARRY]
        if wrong:
            raise PinError("\n".join(map(str, wrong)))
        changed = [file for file in sorted(files) if _bytes(copy / file) != _bytes(root / file)]
        _bring_back(copy, root, changed)
    return Updated(changed, left)


def _carry(root: Path) -> None:
    for repeat in repeats(read_pins(root), root):
        path = root / repeat.file
        # uv.lock is uv's to write, hashes included; what is gone and not generated, `check` names.
        if repeat.mend == CARRY and repeat.file != "uv.lock" and path.exists():
            path.write_text(repeat.carried(path.read_text(encoding="utf-8")), encoding="utf-8")


def _generate(root: Path) -> None:
    for file, text in generated(root).items():
        path = root / file
        stamp = text.partition(" from ")[0]
        if path.exists() and not path.read_text(encoding="utf-8").startswith(stamp):
            raise PinError(f"{file} was not generated: move it away, then run this again")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _bring_back(copy: Path, root: Path, files: list[str]) -> None:
    """Every file is written in full before the first takes its place."""
    beside = [root / f"{file}.embedkit-new" for file in files]
    try:
        for file, new in zip(files, beside, strict=True):
            shutil.copyfile(copy / file, new)
            if (root / file).exists():
                shutil.copymode(root / file, new)
        for file, new in zip(files, beside, strict=True):
            new.replace(root / file)
    finally:
        for new in beside:
            new.unlink(missing_ok=True)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
