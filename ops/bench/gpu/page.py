"""The check's JSON → one self-contained HTML page, as `embedkit bench` has it."""

from collections.abc import Mapping
from html import escape
from statistics import median
from typing import Any

import orjson

from ops.bench.page import page
from ops.bench.profile_part import FIGURES, figure_cells, stage_part
from ops.bench.report import bars_part, machine_part, peers_part
from ops.bench.svg import BarRow, bar_chart
from ops.bench.tables import number, table

Json = Mapping[str, Any]


def render(result: Json) -> str:
    """The page of one result, as `orjson.loads` gives it."""
    title = f"embedkit GPU check, {result['started_at']}"
    fingerprint = result["service"]["fingerprint"] if result["service"] else "nothing was served"
    bad = result["errors"] or result["failed"] or any((result[name] or {}).get("wrong") for name in _TRUTHS)
    return page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="soft">{escape(fingerprint)}</p>',
            f'<p class="headline{" bad" if bad else ""}">{escape(result["headline"])}</p>',
            *(f'<p class="bad">{escape(name)} failed:</p><pre>{escape(why)}</pre>' for name, why in _failed(result)),
            bars_part(result["bars"]),
            _product_words(result["product"]),
            *(_profile_part(result, name, one) for name, one in result["profiles"].items()),
            peers_part(result["peers"], {}),
            _truth(result),
            machine_part(result["machine"], [["duration", f"{result['seconds']:.0f} s"], *_stage_rows(result)]),
            _details(result),
        ],
    )


_TRUTHS = ("parity", "under_load")


def _failed(result: Json) -> list[tuple[str, str]]:
    return list(result["failed"].items())


def _product_words(product: Json | None) -> str:
    if product is None:
        return ""
    words = (
        f"One {product['size']} × {product['size']} matrix product after the other in {product['dtype']} on "
        f"{product['name']} (torch {product['torch']}): {product['flops_per_s'] / 1e12:.1f} TFLOP/s, the median of "
        f"{len(product['rounds'])} rounds. Utilisation below is against this."
    )
    return f"<p>{escape(words)}</p>"


def _profile_part(result: Json, name: str, one: Json) -> str:
    if not one["points"]:
        return f"<h2>{escape(name)}</h2><p>Nothing was measured.</p>"
    tokens = one["tokens"]
    lengths = (
        f"tokens of a text: median {tokens['p50']:.0f}, longest {tokens['longest']:.0f}; "
        f"{one['flops_per_text'] / 1e9:,.2f} GFLOP a text"
    )
    product = result["product"]
    rate = product["flops_per_s"] if product else None
    best = max(one["points"], key=lambda point: point["figures"]["texts_per_s"])
    charts = [
        BarRow(
            f"served, {point['connections']} connections",
            point["figures"]["texts_per_s"],
            f"{number(point['figures']['texts_per_s'])} /s",
            1,
        )
        for point in one["points"]
    ]
    for way in dict.fromkeys(timing["way"] for timing in one["timings"]):
        speed = median(each["texts"] / each["seconds"] for each in one["timings"] if each["way"] == way)
        charts.append(BarRow(way, speed, f"{number(speed)} /s", 4))
    for peer in result["peers"]:
        if peer["profile"] == name:
            speed = peer["figures"]["texts_per_s"]
            charts.append(BarRow(f"{peer['peer']}, {peer['setting'][:32]}", speed, f"{number(speed)} /s", 2))
    rows = [
        [
            str(point["connections"]),
            *figure_cells(point["figures"]),
            *_used(point, one, rate),
            *_gpu_cells(point["gpu"]["usage"]),
        ]
        for point in one["points"]
    ]
    heads = [
        "connections",
        *FIGURES,
        "of the product's rate",
        "GPU busy",
        "busy (p10)",
        "W",
        "SM MHz (least)",
        "GPU MB",
    ]
    return "\n".join(
        [
            f"<h2>{escape(name)}: {number(best['figures']['texts_per_s'])} texts a second</h2>",
            f'<p class="soft">{escape(lengths)}</p>',
            bar_chart(charts, title=f"{name}: texts a second, served, in process, and infinity"),
            table(heads, rows),
            *(f'<p class="soft">NVML: {escape(why)}</p>' for why in _unread(one)),
            f"<h3>Where the workers' time goes at {best['connections']} connections</h3>",
            stage_part(name, best["stages"]),
        ]
    )


def _used(point: Json, one: Json, rate: float | None) -> list[str]:
    if rate is None:
        return ["–"]
    return [f"{point['figures']['texts_per_s'] * one['flops_per_text'] / rate:.1%}"]


def _gpu_cells(usage: Json | None) -> list[str]:
    if usage is None:
        return ["–"] * 5
    return [
        f"{usage['busy']:.0%}",
        f"{usage['busy_p10']:.0%}",
        number(usage["watts"]),
        f"{number(usage['clock_mhz'])} ({usage['clock_mhz_least']})",
        number(usage["memory_most"] / (1 << 20)),
    ]


def _unread(one: Json) -> list[str]:
    return sorted({point["gpu"]["error"] for point in one["points"] if point["gpu"].get("error")})


def _truth(result: Json) -> str:
    words = []
    for name, what in (("parity", "varied texts through HTTP"), ("under_load", "answers kept under load")):
        truth = result[name]
        if truth is None:
            words.append(f"{what}: not compared.")
        elif truth["min_cosine"] is None:
            words.append(f"{what}: none was there to compare.")
        else:
            words.append(
                f"{what}: {truth['checked']} compared with plain float32 sentence-transformers, {truth['wrong']} below "
                f"{truth['bar']}, smallest cosine {truth['min_cosine']:.6f}."
            )
    words.append(f"{result['requests']} requests in all, {result['errors']} errors.")
    return f"<h2>Were the answers right</h2><p>{escape(' '.join(words))}</p>"


def _stage_rows(result: Json) -> list[list[str]]:
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result["stages_took_s"].items())
    return [["stages", took], ["workers on", ", ".join(result["devices"]) or "–"]]


def _details(result: Json) -> str:
    dumps = {"model and archive": result["service"], "plan": result["plan"]}
    return "".join(
        f"<details><summary>{name}</summary><pre>"
        f"{escape(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())}</pre></details>"
        for name, content in dumps.items()
    )
