"""The page's part on one kind of text."""

from collections.abc import Mapping
from html import escape
from typing import Any

from ops.bench.svg import BarRow, Series, bar_chart, line_chart, stacked_chart
from ops.bench.tables import ms, number, ratio, seconds, table

Json = Mapping[str, Any]

_STAGE_COLOURS = {"decode": 2, "tokenize": 3, "forward": 1, "encode": 4}
_REST = "waiting and the rest"
_REST_COLOUR = 5
FIGURES = ("texts /s", "p50", "p95", "p99", "longest", "outcomes", "generator late (p99)", "generator's core", "others")


def profile_part(one: Json) -> str:
    """Throughput, latency, stages and the lone connection, with their charts."""
    tokens = one["tokens"]
    lengths = f"tokens of a text: median {tokens['p50']:.0f}, p95 {tokens['p95']:.0f}, longest {tokens['longest']:.0f}"
    return "\n".join(
        [
            f"<h2>{escape(one['profile'])}: {number(one['ceiling'])} texts a second, "
            f"{ratio(one['efficiency'])} of the bound</h2>",
            f'<p class="soft">{escape(one["meaning"])}; {lengths}; half Chinese, half English</p>',
            "<h3>Throughput against the bound in process, on the same texts</h3>",
            _throughput_chart(one),
            _closed_table(one),
            "<h3>Latency against rate: Poisson arrivals, counted from when each was due</h3>",
            _latency_chart(one),
            _open_table(one),
            _overload_words(one["overload"]),
            "<h3>Where the workers' time goes at full load</h3>",
            stage_part(one["profile"], one["stages"]),
            _one_connection_words(one["latency1"]),
        ]
    )


def _throughput_chart(one: Json) -> str:
    served = [
        BarRow(
            f"served, {point['connections']} connection{'s' if point['connections'] > 1 else ''}",
            point["texts_per_s"],
            f"{number(point['texts_per_s'])} /s",
            1,
        )
        for point in one["closed"]
    ]
    bound = one["bound"]
    in_process = [
        BarRow(name, speed, f"{number(speed)} /s", 4 if name == bound["way"] else _REST_COLOUR)
        for name, speed in bound["ways"].items()
    ]
    title = f"{one['profile']}: texts a second, served and in process"
    return bar_chart([*served, *in_process], title=title, mark=(bound["texts_per_s"], "bound"))


def _closed_table(one: Json) -> str:
    rows = []
    for point in one["closed"]:
        for repeat, run in enumerate(point["runs"], 1):
            rows.append([str(point["connections"]), str(repeat), *figure_cells(run)])
    ratios = ", ".join(ratio(value) for value in one["efficiencies"])
    most = max(point["connections"] for point in one["closed"])
    bound = one["bound"]
    words = (
        f"served at {most} connections over the bound, repeat by repeat: {ratios}; "
        f"bound {number(bound['texts_per_s'])} texts and {number(bound['tokens_per_s'])} tokens a second "
        f"({bound['way']}); "
        f"served {number(one['tokens_per_s'])} tokens a second"
    )
    return table(["connections", "repeat", *FIGURES], rows) + f"<p>{escape(words)}</p>"


def latency_points(one: Json) -> list[Json]:
    """The open loop below and above the ceiling."""
    return [*one["open"], one["overload"]["point"]]


def _latency_chart(one: Json) -> str:
    points = [point for point in latency_points(one) if point["figures"]["latency"]]
    series = [
        Series(name, [(point["rate"], point["figures"]["latency"][name] * 1000) for point in points], colour)
        for colour, name in enumerate(("p50", "p95", "p99"), 1)
    ]
    return line_chart(
        series,
        title=f"{one['profile']}: latency against rate",
        x_label="texts a second, as they arrive",
        y_label="milliseconds",
        mark=(one["ceiling"], "ceiling"),
    )


def _open_table(one: Json) -> str:
    rows = [
        [f"{point['fraction']:.0%}", number(point["rate"]), *figure_cells(point["figures"])]
        for point in latency_points(one)
    ]
    return table(["of the ceiling", "rate /s", *FIGURES], rows)


def _overload_words(overload: Json) -> str:
    found = overload["point"]["figures"]
    slowest = found["slowest_refusal_s"]
    refused = f", the slowest after {seconds(slowest)}" if slowest is not None else ""
    lost = overload["lost_workers"]
    workers = f"workers lost: {', '.join(map(str, lost))}" if lost else "no worker was lost"
    after = (
        "a known text got its right vector afterwards" if overload["answers_after"] else "NO RIGHT ANSWER AFTERWARDS"
    )
    full = f"a full queue takes {seconds(overload['full_queue_s'])}"
    words = f"At {overload['point']['fraction']:.0%}: {found['refusals']} refused{refused}; {full}; {workers}; {after}."
    return f"<p>{escape(words)}</p>"


def stage_part(profile: str, found: Json) -> str:
    """Shares of the workers' time, drawn and told."""
    return _stage_chart(profile, found) + "\n" + _stage_words(found)


def _stage_chart(profile: str, found: Json) -> str:
    share = found["share"]
    if not share:
        return '<p class="soft">The workers have written no histograms.</p>'
    rest = max(0.0, 1 - sum(share.values()))
    colours = {name: _STAGE_COLOURS.get(name, _REST_COLOUR) for name in share} | {_REST: _REST_COLOUR}
    return stacked_chart({profile: {**share, _REST: rest}}, title="time by stage", colours=colours)


def _stage_words(found: Json) -> str:
    parts = [f"{name} {taken:.2f} s" for name, taken in found["seconds"].items()]
    words = (
        f"{found['workers']} workers over {found['elapsed_s']:.1f} s: {', '.join(parts) or 'nothing'}. "
        f"{found['batches']} batches of {number(found['mean_batch_texts'], 1)} texts and "
        f"{number(found['mean_batch_tokens'])} tokens on average."
    )
    return f"<p>{escape(words)}</p>"


def _one_connection_words(found: Json) -> str:
    if found["served"] is None:
        return '<p class="bad">One connection: nothing was answered.</p>'
    words = (
        f"One connection, nothing else going on: median {ms(found['served']['p50'])} over HTTP, "
        f"{ms(found['alone']['p50'])} for the same texts in process: {ratio(found['ratio'])} times; "
        f"{ratio(found['ratio_less_delay'])} times with the batch delay of {ms(found['max_batch_delay_s'])} taken off."
    )
    return f"<p>{escape(words)}</p>"


def figure_cells(found: Json) -> list[str]:
    """A phase as a row's end; FIGURES are the heads."""
    latency = found["latency"]
    times = [ms(latency[name]) for name in ("p50", "p95", "p99", "longest")] if latency else ["–"] * 4
    outcomes = ", ".join(f"{count} × {outcome}" for outcome, count in found["outcomes"].items())
    return [
        number(found["texts_per_s"]),
        *times,
        outcomes,
        ms(found["late_p99_s"]),
        f"{found['client_cpu']:.0%}",
        f"{found['others']:.0%}",
    ]
