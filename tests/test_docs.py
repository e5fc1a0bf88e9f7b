"""The documentation against the checkout: links, paths, commands, settings, pins and error codes that it names."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from env.chooser import load_pins
from env.pins import read_pins
from env.repeats import readme
from ops.cli import app
from ops.settings import INTERNAL, PREFIX, ROOT, Settings

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
RUNTIME = ("var/", "archives/store/", ".venv/", "embedkit.toml/", "env/wheels/", "env/jdk/")
# What an archive or a model folder holds, and what a user's own machine has.
ELSEWHERE = {
    "embedkit_entry.py",
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "adapter_config.json",
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


def commands_of(part: typer.Typer) -> set[str]:
    return {each.name or each.callback.__name__ for each in part.registered_commands if each.callback}


COMMANDS = commands_of(app)
GROUPS = {
    str(each.name or each.typer_instance.info.name): commands_of(each.typer_instance)
    for each in app.registered_groups
    if each.typer_instance
}


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
        if " " in span or "<" in span or "…" in span or "::" in span:  # a test: tests/security/test_table.py looks
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
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for line in code(page):
        for command, part in re.findall(r"(?<![\w/.-])embedkit ([a-z-]+)(?: ([a-z]+)\b)?", line):
            assert command in COMMANDS | set(GROUPS), f"{page}: {line}"
            assert not part or part in GROUPS.get(command, {part}), f"{page}: {line}"
        for target in re.findall(r"(?<![\w/.-])make ([a-z-]+)", line):
            assert target in targets, f"{page}: {line}"


def test_every_command_and_target_is_told() -> None:
    """README names every command, CONTRIBUTING every target; a command of a group has its place on some page."""
    told = {word for line in code("README.md") for word in re.findall(r"embedkit ([a-z-]+)", line)}
    assert (COMMANDS | set(GROUPS)) - told == set()
    lines = [line for page in PAGES for line in code(page)]
    for group, parts in GROUPS.items():
        assert parts - {word for line in lines for word in re.findall(rf"embedkit {group} ([a-z]+)", line)} == set()
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    told = {word for line in code("CONTRIBUTING.md") for word in re.findall(r"make ([a-z-]+)", line)}
    assert targets - told == set()


@pytest.mark.parametrize("page", PAGES)
def test_named_settings_exist(page: str) -> None:
    """Every EMBEDKIT_<NAME> is a setting, or one of the few names that are told apart from settings."""
    named = set(re.findall(rf"{PREFIX}[A-Z_]+\b", text_of(page))) - INTERNAL
    assert {name.removeprefix(PREFIX).lower() for name in named} - set(Settings.model_fields) == set()


def test_the_readmes_say_the_same() -> None:
    """English and Chinese have the same headings by level, the same blocks, and tables of the same size."""
    english, chinese = READMES
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert blocks(english) == blocks(chinese)
    rows = [[line.count("|") for line in text_of(page).splitlines() if line.startswith("|")] for page in READMES]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("page", READMES)
def test_the_table_of_pins_has_no_row_of_its_own(page: str) -> None:
    """Every row that has a version is one that `embedkit env check` compares; tests/env/test_places.py runs it."""
    text = text_of(page)
    rows = re.findall(r"^\| ([^|]+) \| `[\d.]+(?:\+cpu)?` \|", text, re.MULTILINE)
    compared = {each.what for each in readme(read_pins(ROOT), page)}
    assert set(rows) - compared == set()


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
