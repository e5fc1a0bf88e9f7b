"""Whatever is accepted is answered in time: TorchServe ends a worker that has not answered within responseTimeout."""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from handlers import base
from handlers.admission import Admission
from handlers.deadline import Deadline
from handlers.encoding import Vectors
from handlers.engine import Engine
from handlers.errors import TooLargeError
from handlers.isolation import grouped
from handlers.items import Item
from handlers.sentence_handler import SentenceHandler
from handlers.shapes import shapes_for
from handlers.speed import FOLDER_VARIABLE, Speed
from handlers.telemetry import FOLDER_VARIABLE as TELEMETRY_VARIABLE
from handlers.tokenizing import Tokens
from tests.handlers.torchserve_wire import Answer, Sent, Worker, json_body, unpack
from tests.model_folders import minilm_folder

TIMEOUT_S = 3.0
LIMITS: dict[str, Any] = {"max_texts": 10_000, "max_request_tokens": 10_000_000}
BYSTANDER = json_body({"input": "a cat"})


def words(count: int, seed: int = 0) -> str:
    chance = random.Random(seed)
    return " ".join("".join(chance.choices("abcdefghij", k=5)) for _ in range(count))


Make = Callable[..., Worker]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A worker of minilm in torch's float32 that has 3 s for a batch."""

    def made(**card: Any) -> Worker:
        folder = tmp_path / f"archive-{len(list(tmp_path.iterdir()))}"
        unpacked = unpack(folder, minilm_folder(), **{"device": "cpu", **LIMITS, **card})
        return Worker(SentenceHandler(), unpacked, timeout_s=TIMEOUT_S)

    return made


@pytest.fixture
def speed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "speed"))
    return tmp_path / "speed"


def slowed(speed_folder: Path, seconds: float) -> None:
    """What is kept says that a token takes so long."""
    (file,) = speed_folder.iterdir()
    kept = orjson.loads(file.read_bytes())
    kept["speed"] |= {"seconds_a_token": seconds, "seconds_a_token_more": 0.0}
    file.write_bytes(orjson.dumps(kept))


def in_time(worker: Worker, *requests: Sent) -> list[Answer]:
    answers = worker.ask(*requests)
    assert worker.took_s < TIMEOUT_S
    return answers


def same(answer: Answer, expected: Answer) -> None:
    np.testing.assert_allclose(answer.vectors, expected.vectors, atol=2e-6)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_time_is_looked_at_before_every_pass(
    make: Make, backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """One request of far more than there is time for gets a 503 with Retry-After within the time, though nobody knew
    how fast the model is; who came with it, a vector."""
    if backend == "openvino":
        converted = request.getfixturevalue("minilm_converted")
        folder = unpack(tmp_path / "openvino", minilm_folder(), converted=converted, **LIMITS)
        worker = Worker(SentenceHandler(), folder, timeout_s=TIMEOUT_S)
    else:
        worker = make()
    expected = worker.ask_one(BYSTANDER)
    long = json_body({"input": [words(40, seed) for seed in range(3_000)]})
    large, small = in_time(worker, long, BYSTANDER)
    assert (large.status, large.error["code"], large.headers["Retry-After"]) == (503, "overloaded", "1")
    same(small, expected)


def test_a_request_that_cannot_be_done_in_time_is_refused(make: Make, speed_folder: Path) -> None:
    """Where the speed was measured, it is a 413 that says what it takes and how many texts fit; so many are answered,
    and what a worker says of itself has the limit."""
    worker = make()
    texts = [words(200, seed) for seed in range(800)]
    (refused,) = in_time(worker, json_body({"input": texts}))
    assert (refused.status, refused.error["code"]) == (413, "too_many_tokens")
    said = refused.error["message"]
    assert "800 texts, of which the first 256 have 65536 tokens" in said
    assert "a request may take 1.5 s, half of response_timeout_s" in said
    fit = int(said.split("about ")[1].split()[0])
    worker.handler._admission.check([256] * fit, fit, 0, worker.handler.engine.shapes)  # raises where it is too large
    (answered,) = in_time(worker, json_body({"input": texts[: fit // 2]}))  # whatever else this machine does now
    assert len(answered.vectors) == fit // 2
    facts = worker.ask_one(Sent([], {"describe": "True"})).json
    assert 256 <= facts["max_request_tokens"] <= 1.5 * fit * 256


def test_one_text_is_always_accepted(
    make: Make, speed_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine on which no full-length text fits says so at load, and computes one all the same."""
    make()
    slowed(speed_folder, 1.0)
    monkeypatch.setattr(Engine, "seconds_a_token", lambda _: 1.0)
    worker = make()
    assert "a text of 256 tokens takes longer here than half of response_timeout_s = 3" in caplog.text
    assert worker.ask_one(json_body({"input": words(300)})).status == 200
    refused = worker.ask_one(json_body({"input": ["one", "two"]}))
    assert (refused.status, "send about 1 such text in" in refused.error["message"]) == (413, True)


def admission(longest: int, seconds_a_token: float) -> Admission:
    return Admission(100.0, 10_000_000, longest, 1024, Speed(seconds_a_token, 0.0, 1e-7))


@pytest.mark.parametrize(("text_s", "begun_s"), [(1, 75), (24, 75), (40, 60), (50, 50), (90, 25)])
def test_time_is_left_for_the_longest_text(text_s: float, begun_s: float) -> None:
    """No text is begun that would not be done by response_timeout_s, as far as any can be."""
    left = admission(1000, text_s / 1000).deadline().at - time.monotonic()
    assert left == pytest.approx(begun_s, abs=1)


def test_a_text_without_tokens_costs_nothing() -> None:
    """Among many texts of a tokenizer without special tokens, one of blanks: its refusal is not this limit's."""
    shapes = shapes_for("torch", "cpu", token_budget=1024, longest=1000, packs=False, batch_invariant=False)
    admission(1000, 1e-3).check([1000] * 20 + [0], 300, 0, shapes)
    with pytest.raises(TooLargeError):
        admission(1000, 1e-3).check([1000] * 60 + [0], 300, 0, shapes)


def test_the_speed_is_measured_once(make: Make, speed_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second load takes what the first has kept; a damaged file and other threads are measured anew."""
    make()
    (file,) = speed_folder.iterdir()
    first = file.read_bytes()
    make()
    assert file.read_bytes() == first
    file.write_bytes(first[:40])
    make()
    assert "cannot be used" in caplog.text
    again = file.read_bytes()
    assert orjson.loads(again)["of"] == orjson.loads(first)["of"]
    make(threads=2)
    assert orjson.loads(file.read_bytes())["of"]["threads"] == 2
    assert [file] == list(speed_folder.iterdir())


def test_a_folder_that_cannot_be_written_costs_the_file_alone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The model serves, by what was measured just now."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file" / "speed"))
    assert make().ask_one(BYSTANDER).status == 200
    assert "is not kept in" in caplog.text


def test_a_speed_that_is_too_slow_does_not_last(make: Make, speed_folder: Path) -> None:
    """Measured when the machine had much else to do, it would refuse what can be answered for ever: the next start
    finds short texts faster and measures anew."""
    limit = make().handler.facts.max_request_tokens
    slowed(speed_folder, 0.01)
    again = make().handler.facts.max_request_tokens
    assert limit is not None
    assert again is not None
    assert again > limit / 2


def test_a_limit_from_a_busy_moment_refuses_nobody(
    make: Make, speed_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was loaded beside much other work looks at its speed again before it refuses, and tells the limit
    that it has then, to clients and in its file."""
    make()
    monkeypatch.setenv(TELEMETRY_VARIABLE, str(tmp_path / "telemetry"))
    slowed(speed_folder, 0.004)
    with monkeypatch.context() as busy:
        busy.setattr(Engine, "seconds_a_token", lambda _: 0.004)
        worker = make()
    limit = worker.handler.facts.max_request_tokens
    assert len(worker.ask_one(json_body({"input": [words(100, seed) for seed in range(4)]})).vectors) == 4
    told = worker.ask_one(Sent([], {"describe": "True"})).json["max_request_tokens"]
    assert told > 2 * limit
    (file,) = (tmp_path / "telemetry").glob("worker-*.json")
    assert orjson.loads(file.read_bytes())["max_request_tokens"] == told


def test_refusals_cost_little(make: Make, speed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking takes a tenth of a second: requests that are too large in truth do not make a worker look each time."""
    worker = make()
    looks = []

    def look(_: Engine) -> float:
        looks.append("")
        return 0.01

    monkeypatch.setattr(Engine, "seconds_a_token", look)
    large = json_body({"input": [words(200, seed) for seed in range(800)]})
    assert [answer.status for answer in (worker.ask_one(large), worker.ask_one(large))] == [413, 413]
    assert len(looks) == 1


def test_no_pass_is_long(make: Make, speed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass takes a small part of the time, so that one begun last is over in time: where the model is slow, passes
    are smaller."""
    usual = make().handler.engine.shapes.budget
    slowed(speed_folder, 0.001)
    monkeypatch.setattr(Engine, "seconds_a_token", lambda _: 0.001)
    assert make().handler.engine.shapes.budget == 187 < usual
    assert make(batch_invariant=True).handler.engine.shapes.budget == 128  # its passes decide on bits


def test_long_documents_harm_nobody(make: Make) -> None:
    """The texts of fourteen requests with 80 texts of 100,000 characters each are read as far as the model reads, so
    that all that there is time for are computed, and a cat beside them in any case."""
    worker = make()
    expected = worker.ask_one(BYSTANDER)
    document = words(17_000)
    batch = [json_body({"input": [f"{number} {index} {document}" for index in range(80)]}) for number in range(14)]
    *documents, small = in_time(worker, *batch, BYSTANDER)
    same(small, expected)
    assert {answer.status for answer in documents} <= {200, 503}


def test_a_request_of_too_many_characters_is_refused_unread(make: Make, speed_folder: Path) -> None:
    """Texts without a place to cut are tokenized whole, and that is counted before it is done."""
    worker = make(max_chars=1_000_000)
    texts = ["é-" * 400_000] * 16
    (refused,) = in_time(worker, json_body({"input": texts}))
    assert (refused.status, refused.error["code"]) == (413, "too_many_characters")
    assert "16 texts, which have 12800000 characters" in refused.error["message"]


def test_nothing_is_tried_one_by_one_after_the_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that has failed late is answered with what there is, and not begun again."""
    worker = make()
    calls: list[int] = []

    def fails(batch: Sequence[Tokens], deadline: Deadline) -> Vectors:
        calls.append(len(batch))
        while not deadline.passed:
            time.sleep(0.05)
        raise RuntimeError("late")

    monkeypatch.setattr(worker.handler.engine, "embed", fails)
    answers = in_time(worker, BYSTANDER, BYSTANDER, BYSTANDER)
    assert [answer.error["code"] for answer in answers] == ["overloaded"] * 3
    assert calls == [3]


def test_what_was_computed_in_time_is_answered(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """When time is out within a batch, requests whose texts all have their vectors get them."""
    worker = make()
    expected = worker.ask_one(json_body({"input": words(200)}))
    deadline = Countdown(looks=21 + 2 + 2)  # at each request, at tokenizing twice, at computing, at its first pass
    monkeypatch.setattr(type(worker.handler._admission), "deadline", lambda _: deadline)
    monkeypatch.setattr(base, "TOGETHER", 1)
    longest, *others = worker.ask(json_body({"input": words(200)}), *[json_body({"input": words(60)})] * 20)
    same(longest, expected)
    assert {answer.status for answer in others} == {503}


class Countdown(Deadline):
    """Passes when it has been looked at so often."""

    __slots__ = ("left",)

    def __init__(self, looks: int) -> None:
        object.__setattr__(self, "left", [None] * looks)

    @property
    def passed(self) -> bool:
        left: list[None] = self.left  # type: ignore[attr-defined]
        return not left or bool(left.pop())


def test_what_is_cheap_comes_first() -> None:
    """All that fits makes one group, in order; otherwise groups go by cost, and what is too large stands alone."""
    items = [Item(characters=cost) for cost in (3, 2, 9, 1)]

    def groups(most: int) -> list[list[int]]:
        return [[one.characters for one in group] for group in grouped(items, lambda item: item.characters, most)]

    assert groups(15) == [[3, 2, 9, 1]]
    assert groups(5) == [[1, 2], [3], [9]]
    assert groups(0) == [[1], [2], [3], [9]]
