"""`embedkit env check`: everything that is generated from the pins, or repeats one, against the pins."""

from itertools import zip_longest
from pathlib import Path

from env.conda import FILES, environment_files
from env.lock import LOCKS, locks, uv
from env.pins import read_pins
from env.repeats import Mismatch, repeats, text_of

GENERATED = (*LOCKS, *FILES)


def generated(root: Path) -> dict[str, str]:
    """File → text of everything that is generated whole from the pins and uv.lock.

    Raises:
        PinError: a pin is wrong, or uv failed.
    """
    return locks(root) | environment_files(read_pins(root))


def first_difference(file: str, current: str, wanted: str) -> Mismatch | None:
    """The first line in which a generated file differs from what would be generated."""
    for number, (found, right) in enumerate(zip_longest(current.splitlines(), wanted.splitlines()), 1):
        if found != right:
            said, should = ("the end of the file" if one is None else repr(one.strip()) for one in (found, right))
            return Mismatch(file, number, "a generated line", said, should)
    return None


def check(root: Path) -> list[Mismatch]:
    """What of the checkout at `root` is not as its pins say.

    Raises:
        PinError: the pins contradict each other, or uv failed.
    """
    pins = read_pins(root)
    found = []
    texts: dict[str, str] = {}
    for repeat in repeats(pins, root):
        if repeat.file not in texts:
            texts[repeat.file] = text_of(root, repeat.file)
        found += repeat.mismatches(texts[repeat.file])
    if not any(each.file == "uv.lock" for each in found):  # which uv would say of itself, without a line
        uv(root, "lock", "--check")
    for file, wanted in generated(root).items():
        difference = first_difference(file, text_of(root, file), wanted)
        found += [difference] if difference else []
    return found
