"""A copy of what the pins are carried to, to change without harm."""

import shutil
from pathlib import Path

from env.pins import read_pins
from env.places import GENERATED
from env.repeats import repeats
from env.update import INPUTS
from ops.settings import ROOT

FILES = sorted({*INPUTS, *GENERATED, *(each.file for each in repeats(read_pins(ROOT), ROOT))})


def copy_to(folder: Path) -> Path:
    for file in FILES:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {file: (folder / file).read_text(encoding="utf-8") for file in FILES}


def edit(folder: Path, file: str, old: str, new: str) -> None:
    """Replace a text that stands there once or more."""
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text, f"{file}: {old}"
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")


def line_of(folder: Path, file: str, words: str) -> int:
    """The number of the only line that has these words."""
    lines = (folder / file).read_text(encoding="utf-8").splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if words in line)
    return number
