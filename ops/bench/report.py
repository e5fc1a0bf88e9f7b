"""A result's JSON → one self-contained HTML page: no script, nothing loaded from anywhere, light and dark."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import orjson

from ops.bench.page import page
from ops.bench.profile_part import FIGURES, figure_cells, latency_points, profile_part
from ops.bench.tables import number, ratio, table

Json = Mapping[str, Any]


def render(result: Json) -> str:
    """The page of one result, as `orjson.loads` gives it."""
    title = f"embedkit bench: {result['service']['model']}, {result['started_at']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(result["service"]["fingerprint"])}</p>',
        _headline(result),
        bars_part(result["bars"]),
        *(profile_part(one) for one in result["profiles"]),
        peers_part(result["peers"], result["peers_failed"]),
        _truth(result),
        ran_on(
            result, {"model and archive": result["service"], "settings": result["settings"], "plan": result["options"]}
        ),
        _how(result["options"]),
    ]
    return page(title, body)


def _headline(result: Json) -> str:
    bad = result["errors"] or result["truth"]["wrong"]
    return f'<p class="headline{" bad" if bad else ""}">{escape(result["headline"])}</p>'


def bars_part(bars: Sequence[Json]) -> str:
    """What was promised and what was found."""
    rows = [
        [
            bar["what"],
            number(bar["found"], 3),
            f"{'at least' if bar['better'] == 'higher' else 'at most'} {number(bar['limit'], 3)}",
            ("met", "good") if bar["met"] else ("missed", "bad"),
        ]
        for bar in bars
    ]
    return "<h2>Bars</h2>" + table(["bar", "found", "limit", ""], rows) if rows else ""


def peers_part(peers: Sequence[Json], failed: Mapping[str, str]) -> str:
    """Other servers, and why one could not be compared."""
    if not peers and not failed:
        return ""
    rows = [
        [
            point["profile"],
            point["peer"],
            point["setting"],
            str(point["connections"]),
            *figure_cells(point["figures"]),
            number(point["served"]),
            ratio(point["ratio"]) if point["figures"]["answered"] else "–",
        ]
        for point in peers
    ]
    heads = ["texts", "server", "setting", "connections", *FIGURES, "embedkit /s", "ratio"]
    why = "".join(
        f'<p class="bad">{escape(name)} could not be compared:</p><pre>{escape(text)}</pre>'
        for name, text in failed.items()
    )
    return "<h2>Other servers, same texts, same run</h2>" + table(heads, rows) + why


def _truth(result: Json) -> str:
    truth = result["truth"]
    found = "none was compared" if truth["min_cosine"] is None else f"smallest cosine {truth['min_cosine']:.6f}"
    words = (
        f"{truth['checked']} answers compared with plain float32 sentence-transformers: {truth['wrong']} below "
        f"{truth['bar']}; {found}. {result['requests']} requests in all, {result['errors']} errors, "
        f"{result['refused']} refused at or above the ceiling."
    )
    growth = result["memory_growth"]
    if growth is not None:
        words += f" The workers' memory grew by {growth:.1%} after the first 5,000 requests and the warm-ups."
    examples = {
        status: text
        for one in result["profiles"]
        for figures in _all_figures(one)
        for status, text in figures["examples"].items()
    }
    shown = "".join(f"<pre>{escape(status)}: {escape(text)}</pre>" for status, text in sorted(examples.items()))
    return f"<h2>Were the answers right</h2><p>{escape(words)}</p>{shown}"


def _all_figures(one: Json) -> Iterable[Json]:
    yield from (run for point in one["closed"] for run in point["runs"])
    yield from (point["figures"] for point in latency_points(one))


def machine_part(machine: Json, more: Sequence[Sequence[str]]) -> str:
    """What it ran on, and more rows of that kind."""
    busy = f"{machine['busy_before']:.0%} of the cores just before, load {machine['load_before']:.2f}"
    rows = [
        ["processor", f"{machine['cpu']}; {machine['cores']} cores"],
        ["memory", f"{machine['memory'] >> 20} MB"],
        ["GPU", "; ".join(machine["gpus"]) or "none"],
        ["system", f"{machine['system']}, Python {machine['python']}"],
        ["in use by others", busy],
        ["versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())],
        ["commit", machine["commit"] or "not a checkout"],
        *more,
    ]
    return f"<h2>What it ran on</h2>{table(['', ''], rows)}"


def ran_on(result: Json, dumps: Json) -> str:
    """Machine and versions of a result, and what is to be had for the asking."""
    others = f"up to {result['others']:.0%} of the cores while something was measured"
    more = [["others meanwhile", others], ["duration", f"{result['seconds']:.0f} s"]]
    details = "".join(
        f"<details><summary>{name}</summary><pre>"
        f"{escape(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())}</pre></details>"
        for name, content in dumps.items()
    )
    return machine_part(result["machine"], more) + details


def _how(options: Json) -> str:
    words = (
        "Server, load generator and whatever else is named above share the machine. Every text was sent once; seed "
        f"{options['seed']} gives the same ones again. The closed loop finds the ceiling and hides waiting; the open "
        "loop sends when a text is due, whatever has become of the others, and its latencies count from then. The "
        "bound is the fastest way that was found to compute the same texts in process: the archive's own engine with "
        "all threads or a process a core, sorted over the whole set, or plain SentenceTransformer.encode."
    )
    quick = " This was a quick run: good for a look, not for a figure to quote." if options["quick"] else ""
    return f'<p class="soft">{escape(words)}{quick}</p>'
