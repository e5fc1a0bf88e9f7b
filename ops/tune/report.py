"""A tuning's JSON → one self-contained HTML page: the frontier as a plot, every candidate as a row."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ops.bench.page import page
from ops.bench.report import ran_on
from ops.bench.svg import Series, line_chart
from ops.bench.tables import Cell, ms, number, table

Json = Mapping[str, Any]

HEADS = ("workers", "threads", "batch_size", "max_batch_delay_ms", "token_budget")


def render(result: Json) -> str:
    """The page of one result, as `orjson.loads` gives it."""
    title = f"embedkit tune: {result['model']}, {result['started_at']}"
    good = result["chosen"] and result["ended"] != "interrupted"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(result["engine"])}, {escape(result["plan"]["profile"])} texts</p>',
        f'<p class="headline{"" if good else " bad"}">{escape(result["headline"])}</p>',
        _choice(result),
        "<h2>Throughput and latency of every candidate</h2>",
        _plot(result),
        _candidates(result),
        "<h2>Every run</h2>",
        _runs(result["rows"]),
        ran_on(result, {"settings": result["settings"], "plan": result["plan"]}),
        _how(result["plan"]),
    ]
    return page(title, body)


def _choice(result: Json) -> str:
    if not result["chosen"]:
        return ""
    keys = ", ".join(f"{key} = {value}" for key, value in result["changes"].items())
    if not keys:
        return "<p>models.toml means this already.</p>"
    done = "was written" if result["written"] else "was not written: --write does it"
    return f"<p>To change in models.toml ({done}): <b>{escape(keys)}</b></p>"


def _point(row: Json) -> tuple[float, float]:
    return row["texts_per_s"], row["p99_s"] * 1000


def _plot(result: Json) -> str:
    measured = sorted((row for row in result["rows"] if row["texts_per_s"] is not None), key=_point)
    groups = (
        Series("frontier", [_point(row) for row in measured if row["frontier"]], 1),
        Series("beaten", [_point(row) for row in measured if not row["frontier"]], 5, joined=False),
        Series("models.toml now", [_point(row) for row in measured if row["current"]], 2, joined=False),
        Series("chosen", [_point(row) for row in measured if row["chosen"]], 4, joined=False),
    )
    aim = result["plan"]["p99_s"] * 1000
    return line_chart(
        [one for one in groups if one.points],
        title="p99 against throughput",
        x_label="texts a second at most",
        y_label=f"p99 at {result['plan']['load']:.0%} of that, milliseconds",
        level=(aim, f"aim {aim:g} ms"),
    )


def _candidates(result: Json) -> str:
    rows: list[Sequence[Cell]] = [
        [
            *(str(row["candidate"][key]) for key in HEADS),
            number(row["texts_per_s"]) if row["texts_per_s"] is not None else "–",
            (ms(row["p99_s"]), "good" if row["meets"] else "bad") if row["p99_s"] is not None else "–",
            str(len(row["runs"])),
            remark(row),
        ]
        for row in result["rows"]
    ]
    return table([*HEADS, "texts /s", "p99", "runs", ""], rows)


def remark(row: Json) -> str:
    """What is to be said of a candidate beside its figures."""
    said = [name for name, key in (("chosen", "chosen"), ("frontier", "frontier"), ("now", "current")) if row[key]]
    if row["reason"]:
        said.append(f"out: {row['reason']}")
    return ", ".join(said)


def _runs(rows: Sequence[Json]) -> str:
    lines = [
        [
            " / ".join(str(row["candidate"][key]) for key in HEADS),
            number(run["texts_per_s"], 1),
            number(run["rate"], 1),
            ms(run["p50_s"]),
            ms(run["p99_s"]),
            str(run["sent"]),
            f"{run['checked']}, {run['min_cosine']:.6f}",
            f"{run['others']:.0%}",
            f"{run['seconds']:.0f} s",
        ]
        for row in rows
        for run in row["runs"]
    ]
    heads = [
        " / ".join(HEADS),
        "texts /s",
        "open loop /s",
        "p50",
        "p99",
        "texts",
        "compared, least cosine",
        "others",
        "",
    ]
    return table(heads, lines)


def _how(plan: Json) -> str:
    words = (
        "Each candidate was packed and served by a TorchServe of its own on this machine, beside the load generator. A "
        f"closed loop of about {plan['closed_s']:.1f} s found its ceiling; Poisson arrivals at {plan['load']:.0%} of "
        f"that ceiling for {plan['open_s']:.1f} s its latency, counted from when each text was due. All candidates got "
        f"the same texts (seed {plan['seed']}). A sample of the answers of each run was compared with plain float32 "
        "sentence-transformers; a wrong vector or an unanswered text puts a candidate out. Figures of several runs are "
        "medians. On the frontier are those that no other beats in throughput without a longer p99."
    )
    return f'<p class="soft">{escape(words)}</p>'
