"""`gateway_key_rate` through a real HAProxy: what the headers say is what holds."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
import requests

from ops.gateway.control import key_use
from ops.gateway.keys import with_new
from tests.ops.gateway.running import Gateway, gateway, settings_for
from tests.ops.gateway.stand_in import StandIn, serving

pytestmark = pytest.mark.needs("haproxy")


@contextmanager
def limited(folder: Path, rate: int) -> Iterator[tuple[Gateway, str, str]]:
    """A gateway where a key may send so many requests a second, and two keys."""
    keys, alice = with_new({}, "alice")
    keys, bob = with_new(keys, "bob")
    settings = settings_for(folder, gateway_key_rate=rate)
    with serving(StandIn(settings.inference_port)), gateway(settings, keys=keys) as running:
        yield running, alice, bob


def told(answer: requests.Response) -> tuple[int, int, int]:
    """Limit, remaining and reset in seconds, as OpenAI's headers write them."""
    limit, remaining, reset = (
        answer.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset")
    )
    assert reset.endswith("s")
    return int(limit), int(remaining), int(reset[:-1])


@pytest.mark.parametrize("rate", [1, 3, 40])
def test_who_waits_as_long_as_it_is_told_is_let_in(tmp_path: Path, rate: int) -> None:
    """After exactly Retry-After, and after exactly retry-after-ms, the next request passes; neither is longer
    than a request's worth, but for rounding."""
    with limited(tmp_path, rate) as (running, alice, _):
        use = {"Authorization": f"Bearer {alice}"}
        with requests.Session() as session:

            def refused() -> requests.Response:
                """The answer to the first request over the limit."""
                while (answer := session.get(running.url + "/v1/models", headers=use, timeout=5)).status_code == 200:
                    pass
                return answer

            for header, unit in (("Retry-After", 1), ("retry-after-ms", 1000)):
                answer = refused()
                assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
                assert (told(answer)[:2], answer.json()["error"]["type"]) == ((10 * rate, 0), "requests")
                wait_s = int(answer.headers[header]) / unit
                assert 0 < wait_s <= (math.ceil(1 / rate) if unit == 1 else 1 / rate + 0.01)
                time.sleep(wait_s)
                assert session.get(running.url + "/v1/models", headers=use, timeout=5).status_code == 200


def test_every_answer_says_what_is_left_to_its_key(tmp_path: Path) -> None:
    """200, 404 and 429 alike, a key for itself; after `reset` all of it is there again."""
    with limited(tmp_path, 1) as (running, alice, bob):

        def ask(key: str, path: str = "/v1/models") -> requests.Response:
            return requests.get(running.url + path, headers={"Authorization": f"Bearer {key}"}, timeout=5)

        first = ask(alice)
        assert (first.status_code, told(first)) == (200, (10, 9, 1))
        missing = ask(alice, "/v1/models/none")
        assert (missing.status_code, told(missing)) == (404, (10, 8, 2))
        embedded = running.post(headers={"Authorization": f"Bearer {alice}"})
        assert (embedded.status_code, told(embedded)) == (200, (10, 7, 3))
        assert told(ask(bob)) == (10, 9, 1)
        time.sleep(told(embedded)[2])
        assert told(ask(alice)) == (10, 9, 1)
        for path, key in (("/healthz", alice), ("/v1/models", "nonsense")):
            assert not [name for name in ask(key, path).headers if name.lower().startswith("x-ratelimit")]


def test_a_flood_gets_no_more_than_the_rate(tmp_path: Path) -> None:
    """8 connections at once for 3 s, whose threads' clocks differ by a little: what was saved up and 3 s' worth."""
    with limited(tmp_path, 50) as (running, alice, _), ThreadPoolExecutor(8) as pool:
        begun = time.monotonic()

        def flood(_: int) -> int:
            passed = 0
            with requests.Session() as session:
                while time.monotonic() < begun + 3:
                    answer = session.get(
                        running.url + "/v1/models", headers={"Authorization": f"Bearer {alice}"}, timeout=5
                    )
                    passed += answer.status_code == 200
            return passed

        passed = sum(pool.map(flood, range(8)))
        took_s = time.monotonic() - begun
        print(f"{passed} passed in {took_s:.2f} s, {key_use(running.settings)['alice'].refused} refused")
        assert 500 <= passed <= 1.02 * (500 + 50 * took_s)
        assert key_use(running.settings)["alice"].refused > 100


def test_the_openai_client_waits_and_is_let_in(tmp_path: Path) -> None:
    """Unmodified, with one retry: the request over the limit is answered after the wait that the headers name."""
    with limited(tmp_path, 2) as (running, alice, _):
        with openai.OpenAI(base_url=running.url + "/v1", api_key=alice, max_retries=1) as client:
            for _ in range(24):
                client.embeddings.create(model="minilm", input="a", encoding_format="float")
        assert key_use(running.settings)["alice"].refused > 0
