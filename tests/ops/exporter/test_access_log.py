"""From lines of TorchServe's access log, taken from a real one, to requests that nobody can disguise."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.exporter.access_log import LineReader, Request, RequestCounts
from ops.exporter.buckets import REQUEST_SECONDS
from ops.exporter.clock import ClockWatch
from ops.exporter.families import Families
from tests.ops.exporter.reading import samples, value

MARK = b"embedkit-canary=s3cret"


def line(uri: str, code: int = 200, ms: int = 15, end_ms: int = 1795618190173) -> bytes:
    return f'{end_ms} /127.0.0.1:42216 "POST {uri} HTTP/1.1" {code} {ms}'.encode()


def reader() -> LineReader:
    made = LineReader([MARK])
    made.allow(["minilm", "中文"])
    return made


@pytest.mark.parametrize(
    ("uri", "model"),
    [
        ("/predictions/minilm", "minilm"),
        ("/predictions/minilm/", "minilm"),
        ('/predictions/minilm?x="q"%20&y', "minilm"),
        ("/predictions/minilm/1.0/v1/embeddings", "minilm"),
        ("/predictions/min%69lm", "minilm"),
        ("/predictions/%E4%B8%AD%E6%96%87", "中文"),
        ("/v1/models/minilm:predict", "minilm"),
        ("/v2/models/minilm/infer", "minilm"),
        ("/v2/models/minilm/versions/1.0/infer", "minilm"),
        ("/explanations/minilm", "minilm"),
        ("/predictions/nope", "other"),
        ("/predictions/minilm2", "other"),
        ("/invocations", "other"),
        ("/bad-request", "other"),
    ],
)
def test_whose_request_it_is(uri: str, model: str) -> None:
    """A served model in any spelling that TorchServe takes; everything else is "other"."""
    assert list(reader().read([line(uri, 503, 7)])) == [Request(model, 503, 1795618190.173, 0.007)]


@pytest.mark.parametrize(
    "uri",
    ["/ping", "/metrics", "/models/minilm/all", "/models/minilm/1.0?min_worker=0", "/", "//predictions/minilm",
     "/v1/models/minilm", f"/predictions/minilm?{MARK.decode()}"],
)  # fmt: skip
def test_what_is_no_users_request(uri: str) -> None:
    """Pings, management, metrics, paths of no model, and the kit's own probes."""
    assert list(reader().read([line(uri)])) == []


@pytest.mark.parametrize(
    "query",
    ["embedkit-canary=guess", "embedkit-canary=", f"x&{MARK.decode()}", f"{MARK.decode()}&x", "embedkit-canary"],
)
def test_nobody_hides_behind_the_canary(query: str) -> None:
    """Without the secret, or with anything beside it, a request counts."""
    assert len(list(reader().read([line(f"/predictions/minilm?{query}")]))) == 1


def test_lines_that_are_none_are_counted() -> None:
    """Rubbish is told, and the lines around it are read."""
    made = reader()
    found = list(made.read([b"", b"\xff\x00", line("/predictions/minilm")[:-4], line("/predictions/minilm")]))
    assert (len(found), made.unreadable) == (1, 3)


@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters=" \n\r\t"), min_size=1), st.integers(0, 999))
    )
)
def test_no_client_makes_series(asked: list[tuple[str, int]]) -> None:
    """Whatever names and codes are asked for, there are the served models, "other", and HTTP's codes."""
    counts = RequestCounts(ClockWatch())
    counts.count(reader().read([line(f"/predictions/{name}", code) for name, code in asked]))
    families = Families()
    counts.add_to(families)
    labels = [dict(key) for _, key in samples(families)]
    assert {each["model"] for each in labels if "model" in each} <= {"minilm", "中文", "other"}
    codes = {each["code"] for each in labels if "code" in each}
    assert all(code == "other" or 100 <= int(code) <= 599 for code in codes)


def test_counts_are_exact_and_in_their_buckets() -> None:
    """Each request once, by model and code; the buckets are cumulative and end at the count."""
    counts = RequestCounts(ClockWatch())
    counts.expect(["minilm"])
    lines = [line("/predictions/minilm", 200, ms) for ms in (0, 1, 15, 15, 9_999, 200_000)]
    lines += [line("/predictions/minilm", 503, 0)] * 3
    counts.count(reader().read(lines))
    families = Families()
    counts.add_to(families)
    name, ok = "embedding_request_duration_seconds", {"model": "minilm", "code": "200"}

    assert value(families, f"{name}_count", **ok) == 6
    assert value(families, f"{name}_sum", **ok) == pytest.approx(0.001 + 0.03 + 9.999 + 200)
    assert value(families, f"{name}_bucket", **ok, le="0.001") == 2
    assert value(families, f"{name}_bucket", **ok, le="120.0") == 5
    assert value(families, f"{name}_bucket", **ok, le="+Inf") == 6
    assert value(families, f"{name}_count", model="minilm", code="503") == 3
    assert value(families, f"{name}_count", model="minilm", code="500") == 0  # there before the first failure


def test_a_quantile_is_within_a_tenth() -> None:
    """From 10 ms to 10 s no bucket is wider than a tenth of its lower bound."""
    wide = [high / low for low, high in pairwise(REQUEST_SECONDS) if 0.01 <= low < 10]
    assert max(wide) <= 1.101
    assert list(REQUEST_SECONDS) == sorted(set(REQUEST_SECONDS))


def test_an_unsound_duration_counts_at_the_last_sound_one() -> None:
    """A negative duration is a request, and no observation of its own."""
    counts = RequestCounts(ClockWatch())
    counts.count(reader().read([line("/predictions/minilm", ms=20), line("/predictions/minilm", ms=-3_600_000)]))
    families = Families()
    counts.add_to(families)
    ok = {"model": "minilm", "code": "200"}
    assert value(families, "embedding_request_duration_seconds_count", **ok) == 2
    assert value(families, "embedding_request_duration_seconds_sum", **ok) == pytest.approx(0.04)
    assert value(families, "embedding_request_unmeasured_total", **ok) == 1
