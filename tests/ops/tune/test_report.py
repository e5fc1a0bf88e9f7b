"""The page says what the JSON says, by itself."""

import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest

from ops.console import to_plain
from ops.tune.report import render
from ops.tune.result import Result
from tests.ops.bench.test_report import words
from tests.ops.tune.sample import TRIALS, result


def page(found: Result) -> str:
    content: dict[str, Any] = orjson.loads(orjson.dumps(found, default=to_plain))
    return render(content)


@pytest.mark.parametrize(
    "shown",
    [
        "263 texts a second at most",
        "batch_size = 16",
        "was not written",
        "61.5 ms",
        "aim 50 ms",
        "3 of 600 texts unanswered",
        "48, 0.999972",
        "openvino bfloat16",
        "abc123+",
        "frontier at 263: 48.5",  # a dot's hint
    ],
)
def test_figures_of_the_json_are_on_the_page(shown: str) -> None:
    """What a reader looks for is there as the result has it."""
    assert shown in words(page(result(TRIALS)))


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    """As XML it parses; no script, no address; the frontier is the only line, every measured candidate a dot."""
    html = page(result(TRIALS))
    ET.fromstring(html.removeprefix("<!DOCTYPE html>\n"))
    assert "<script" not in html
    assert not re.search(r"(src|href|url\()\s*=?", html.replace("http://www.w3.org/2000/svg", ""))
    assert html.count("<polyline") == 1
    hints = re.findall(r"<circle.*?<title>(\w+)", html)
    assert (hints.count("frontier"), hints.count("beaten"), hints.count("chosen")) == (3, 1, 1)


def test_no_choice_does_not_look_like_one() -> None:
    """Where nothing meets the aim, was interrupted, or could be measured, the headline is marked."""
    good = '<p class="headline">'
    assert good in page(result(TRIALS))
    assert good not in page(result(TRIALS, p99_s=0.01))
    assert good not in page(replace(result(TRIALS), ended="interrupted"))
    assert "nothing was answered" in page(result(TRIALS[-1:]))
