"""The documentation against the checkout: links, paths, commands, settings, pins and error codes that it names."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from env.chooser import FLAVOURS, load_pins, lock_path
from env.requirements import packages_of
from ops.cli import app
from ops.settings import PREFIX, ROOT, Settings

READMES = ("README.md", "README.zh.md")
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *ROOT.glob("README*.md"),
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("ops/runbooks/*.md"),
    )
)

# Made at run time or by a user: not in a clean checkout.
RUNTIME = ("var/", "archives/store/", ".venv/", "embedkit.toml/")
# What an archive or a model folder holds, and what a user's own machine has.
ELSEWHERE = {
    "embedkit_entry.py",
    "config.json",
    "modules.json",
    "model-config.yaml",
    "embedkit.json",
    "embedkit-manifest.json",
    "config.properties",
    "pip.conf",
    "request.json",
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
FILE_NAME = re.compile(r"\.?[\w-]+(\.[\w-]+)*\.(py|toml|md|txt|lock|json|xml|yaml|properties|conf)")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return FENCE.findall(text_of(page))


def spans(page: str) -> list[str]:
    """Everything in backticks outside fenced blocks."""
    return CODE.findall(FENCE.sub("", text_of(page)))


def code(page: str) -> Iterator[str]:
    """Lines of blocks that are not data, and spans: where commands are named."""
    for language, content in blocks(page):
        if language in {"", "bash", "sh"}:
            yield from content.splitlines()
    yield from spans(page)


def headings(page: str) -> list[tuple[int, str]]:
    found = re.findall(r"^(#+) (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return [(len(marks), title) for marks, title in found]


def anchors(page: str) -> set[str]:
    """The fragments that GitHub makes of a page's headings."""
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for _, title in headings(page))
    return {title.replace(" ", "-") for title in plain}


def named_paths(page: str) -> Iterator[str]:
    """What is in backticks and looks like a path of the checkout."""
    folders = {entry.name for entry in ROOT.iterdir() if entry.is_dir()} | {"var"}
    for span in spans(page):
        first, slash, _ = span.partition("/")
        if " " in span or "<" in span or "…" in span:
            continue
        if (slash and first in folders) or FILE_NAME.fullmatch(span):
            yield span


def exists(path: str) -> bool:
    if path in ELSEWHERE or f"{path}/".startswith(RUNTIME):
        return True
    if "/" in path:
        return any(ROOT.glob(path.rstrip("/")))
    # A bare name is a file at the top, or one that its page has introduced with its folder.
    return (ROOT / path).exists() or any(
        (ROOT / folder / path).exists() for folder in ("archives", "docs", "env", "ops/torchserve")
    )


def known_commands() -> set[str]:
    """The first words that `embedkit` takes: commands, and groups of them."""
    commands = {each.name or each.callback.__name__ for each in app.registered_commands if each.callback}
    return commands | {str(each.name) for each in app.registered_groups}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link names a file that is there, and a heading of it where it names one."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page))):
        if target.startswith("https://"):
            continue
        file, _, fragment = target.partition("#")
        linked = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert linked.exists(), f"{page}: {target}"
        if fragment:
            assert fragment in anchors(str(linked.relative_to(ROOT))), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_named_paths_exist(page: str) -> None:
    """A path in backticks is in the checkout, or is one that appears at run time."""
    assert [path for path in named_paths(page) if not exists(path)] == []


@pytest.mark.parametrize("page", PAGES)
def test_named_commands_exist(page: str) -> None:
    """Every `embedkit X` is a command of the CLI and every `make X` a target."""
    commands = known_commands()
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for line in code(page):
        for command in re.findall(r"(?<![\w/.-])embedkit ([a-z-]+)", line):
            assert command in commands, f"{page}: {line}"
        for target in re.findall(r"(?<![\w/.-])make ([a-z-]+)", line):
            assert target in targets, f"{page}: {line}"


def test_every_command_and_target_is_told() -> None:
    """README names every command, CONTRIBUTING every target."""
    commands = known_commands()
    told = {word for line in code("README.md") for word in re.findall(r"embedkit ([a-z-]+)", line)}
    assert commands - told == set()
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    told = {word for line in code("CONTRIBUTING.md") for word in re.findall(r"make ([a-z-]+)", line)}
    assert targets - told == set()


@pytest.mark.parametrize("page", PAGES)
def test_named_settings_exist(page: str) -> None:
    """Every EMBEDKIT_<NAME> is a setting."""
    named = re.findall(rf"{PREFIX}([A-Z_]+)\b", text_of(page))
    assert {name.lower() for name in named} - set(Settings.model_fields) == set()


def test_the_readmes_say_the_same() -> None:
    """English and Chinese have the same headings by level, the same blocks, and tables of the same size."""
    english, chinese = READMES
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert blocks(english) == blocks(chinese)
    rows = [[line.count("|") for line in text_of(page).splitlines() if line.startswith("|")] for page in READMES]
    assert rows[0] == rows[1]


def pinned() -> dict[str, str]:
    """First cell → version, as README's table has to have them."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    exact = dict(each.split("==") for each in project["dependencies"])
    extras = {
        flavour: dict(each.split("==") for each in project["optional-dependencies"][flavour]) for flavour in FLAVOURS
    }
    torch = {flavour: extra["torch"] for flavour, extra in extras.items()}
    pins = load_pins()
    assert pins["torch"]["cpu"]["version"] == f"{torch['cpu']}+cpu"
    return exact | {
        "Python": pins["python"]["version"],
        "torch, `cpu`": pins["torch"]["cpu"]["version"],
        "torch, `cuda12`": torch["cuda12"],
        "torch, `cuda13`": torch["cuda13"],
        "JDK": str(pins["jdk"]["wanted"]),
    }


@pytest.mark.parametrize("page", READMES)
def test_the_pin_table_is_the_pins(page: str) -> None:
    """README's versions are those of pyproject.toml and pins.toml; CUDA and driver those of locks and pins.toml."""
    wanted = pinned()
    rows = re.findall(r"^\| ([^|]+) \| `([\d.]+(?:\+cpu)?)` \| ?([^|]*)\|$", text_of(page), re.MULTILINE)
    table = {name: version for name, version, _ in rows}
    assert table == {name: wanted[name] for name in table}
    core = {"Python", "JDK", *(f"torch, `{flavour}`" for flavour in FLAVOURS), "torchserve", "torch-model-archiver"}
    assert core | {"sentence-transformers", "transformers", "huggingface-hub"} <= set(table)
    notes = {name: note for name, _, note in rows}
    for flavour in ("cuda12", "cuda13"):
        versions = packages_of(lock_path(flavour).read_text(encoding="utf-8"))
        runtime = next(version for name, version in versions.items() if name.startswith("nvidia-cuda-runtime"))
        said = re.findall(r"\d+(?:\.\d+)?", notes[f"torch, `{flavour}`"])
        assert said == [".".join(runtime.split(".")[:2]), str(load_pins()["torch"][flavour]["driver"])]


def test_every_error_code_is_documented() -> None:
    """docs/requests.md lists the codes that handlers/ answers with, no more and no fewer."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "handlers").glob("*.py"))
    answered = set(re.findall(r"code=\"(\w+)\"", sources))
    listed = re.findall(r"^\| \d{3} \| `(\w+)` \|", text_of("docs/requests.md"), re.MULTILINE)
    assert answered == set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("page", PAGES)
def test_no_index_is_named(page: str) -> None:
    """Where packages come from is pip's settings' to say: PyTorch's index stands in pins.toml alone."""
    host = Path(load_pins()["torch"]["cpu"]["index"].removeprefix("https://")).parts[0]
    assert host not in text_of(page)
