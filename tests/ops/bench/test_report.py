"""The page says what the JSON says, by itself."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest

from ops.bench.report import render
from ops.bench.result import Result
from ops.bench.truth import Truth
from ops.console import to_plain
from tests.ops.bench.sample import PHASE, PROFILE, RESULT


def page(result: Result) -> str:
    content: dict[str, Any] = orjson.loads(orjson.dumps(result, default=to_plain))
    return render(content)


class Words(HTMLParser):
    """The text of a page, its style left out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def words(html: str) -> str:
    return " ".join(Words(html).found)


@pytest.mark.parametrize(
    "shown",
    [
        "minilm: short 251 texts a second",  # the headline
        "0.91, 0.92",  # the efficiency of each repeat
        "279 /s",  # the bound
        "4,517 tokens",
        "12.3 ms",  # p50
        "78.9 ms",  # p99
        "900 × 200, 100 × 503",
        "the slowest after 0.23 s",
        "a full queue takes 1.27 s",
        "forward 6.80 s",
        "31.2 texts",
        "1.26 times",
        "1.09 times",
        "smallest cosine 0.999987",
        "200 refused",
        "abc123+",
        "torch 2.13.0",
        '"seed": 9',
        "mosec",
        "344",
        "1.37",
        "it ended with status 3",
        "0.913",
    ],
)
def test_figures_of_the_json_are_on_the_page(shown: str) -> None:
    """What a reader looks for is there as the result has it."""
    assert shown in words(page(RESULT))


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    """As XML it parses, each chart too; no script, no address to load from."""
    html = page(RESULT)
    ET.fromstring(html.removeprefix("<!DOCTYPE html>\n"))
    charts = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(charts) == 3
    assert "<script" not in html
    assert not re.search(r"(src|href|url\()\s*=?", html.replace("http://www.w3.org/2000/svg", ""))
    assert "prefers-color-scheme: dark" in html


def test_errors_are_in_the_headline_in_red() -> None:
    """A run with errors, or with wrong vectors, does not look like a good one."""
    good = '<p class="headline">'
    assert good in page(RESULT)
    assert good not in page(replace(RESULT, errors=1))
    assert good not in page(replace(RESULT, truth=Truth(120, 3, 0.5, 0.999, "a text")))


def test_a_run_in_which_nothing_was_answered_has_a_page() -> None:
    """No latency, no stages, nothing compared: words in their place."""
    nothing = replace(PHASE, answered=0, latency=None, outcomes={"lost": 1000}, texts_per_s=0.0)
    stages = replace(PROFILE.stages, seconds={}, share={})
    profile = replace(
        PROFILE,
        open=[replace(point, figures=nothing) for point in PROFILE.open],
        overload=replace(PROFILE.overload, point=replace(PROFILE.overload.point, figures=nothing)),
        latency1=replace(PROFILE.latency1, served=None, ratio=None, ratio_less_delay=None),
        stages=stages,
    )
    empty = Truth(0, 0, None, 0.999, "")
    result = replace(RESULT, profiles=[profile], truth=empty, peers=[], peers_failed={}, bars=[])
    found = words(page(result))
    assert "1000 × lost" in found
    assert "nothing was answered" in found
    assert "none was compared" in found
