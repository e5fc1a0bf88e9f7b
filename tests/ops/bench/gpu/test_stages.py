"""What a stage needs of those before it, and what is left of one that fails or runs out of time."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import BertTokenizerFast

from archives.progress import SILENT
from env.hardware import Hardware
from handlers.card import ServingCard
from ops.bench import peers
from ops.bench.bound import Timing
from ops.bench.client import Target
from ops.bench.contention import Contention
from ops.bench.gpu import judge, stages, tokens
from ops.bench.gpu.clock import OutOfTimeError
from ops.bench.gpu.plan import PROFILES
from ops.bench.gpu.run import plan_of
from ops.bench.gpu.shape import SMALL
from ops.bench.gpu.stages import Here, Measured
from ops.bench.phases import Phases
from ops.bench.texts import Texts
from ops.errors import OpsError
from ops.settings import Settings
from tests.model_folders import make_bge_shaped
from tests.ops.bench.gpu.sample import arguments, measured
from tests.ops.bench.sample import PHASE, PROFILE
from tests.ops.bench.stand_in import OK, serving


def test_tokens_are_counted_without_a_model(tmp_path: Path) -> None:
    """By the folder's tokenizer alone: as many ids as sentence-transformers reads, cut to 512."""
    folder = make_bge_shaped(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    texts = ["天气很好", "Abc!", *Texts(1).take("short", 20), *Texts(1).take("long", 2)]
    found = tokens.lengths(folder, texts)
    theirs = BertTokenizerFast.from_pretrained(folder)
    assert found == [len(theirs(text, truncation=True).input_ids) for text in texts]
    assert found[:2] == [6, 6]
    assert found[-2:] == [512, 512]


class Service:
    """Phases of a service that answers everything at once; the texts are real."""

    def __init__(self) -> None:
        self.texts, self.options, self.progress = Texts(1), plan_of(arguments("cpu", "--small")).options, SILENT
        self.service = SimpleNamespace(card=ServingCard(model="m", version="1", revision="r", kit="1"), reference=None)
        self.ran, self.contention = (0.0, 0.0), None

    def warm_up(self, profile: str) -> float:
        return 100.0

    def how_many(self, rate: float, seconds: float, connections: int) -> int:
        return 4

    def closed(self, texts: list[str], connections: int, label: str) -> Any:
        return PHASE

    def closed_with_stages(self, texts: list[str], connections: int, label: str) -> Any:
        return PHASE, PROFILE.stages


def here_in(folder: Path) -> Here:
    plan = plan_of(arguments("cpu", "--small"))
    return Here(plan, Settings(var=folder), Hardware(2, 0), folder, SILENT)


def test_the_closed_loops_need_nothing_of_parity(tmp_path: Path) -> None:
    """Parity has failed or was never there: lengths, points and texts for the bound are."""
    make_bge_shaped(tmp_path / "model")
    found = Measured()
    found.phases = Service()  # type: ignore[assignment]
    for profile in PROFILES:
        stages.closed(here_in(tmp_path), found, profile)
    assert found.parity is None
    assert [len(one.points) for one in found.profiles.values()] == [2, 2]
    assert found.profiles["long"].flops_per_text == pytest.approx(SMALL.flops(512))
    assert {profile: len(texts) for profile, texts in found.samples.items()} == {"short": 64, "long": 64}
    assert found.profiles["short"].points[0].gpu == {"usage": None, "error": "no GPU"}


class AnsweredBy(Phases):
    """Phases on the stand-in: nothing is deployed, so that there are no workers to ask for."""

    def __init__(self, target: Target, folder: Path) -> None:
        settings, options = Settings(var=folder), plan_of(arguments("cpu", "--small")).options
        service: Any = SimpleNamespace(model="m")
        super().__init__(settings, service, options, SILENT, Texts(1), Contention(settings, os.cpu_count() or 1))
        self._target = target

    @property
    def target(self) -> Target:
        return self._target

    def pids(self) -> tuple[int, ...]:
        return ()


def test_when_the_load_ran_is_known(tmp_path: Path) -> None:
    """From the first text to the last answer, less than what was done around it."""
    answer = b'{"data":[{"embedding":[1.0]}]}'
    whole = OK.replace(b"Length: 2", b"Length: %d" % len(answer)).replace(b"{}", answer)
    with serving(lambda number: (0.05, whole)) as server:
        phases = AnsweredBy(server.target, tmp_path)
        before = time.monotonic()
        figures = phases.closed(Texts(1).take("short", 4), 1, "four")
        begin, end = phases.ran
        assert before < begin < end < time.monotonic()
        assert end - begin == pytest.approx(figures.seconds)
        assert figures.seconds >= 0.2


class Meter:
    """Times one way and then the other; the second way's time may be up before it is done."""

    def __init__(self, *, ends: bool) -> None:
        self.ends = ends

    def measure(self, sets: Any, samples: Any, contention: Any, progress: Any, into: Any) -> Any:
        for profile in sets:
            into[profile] = [Timing("engine", 10, 160, 1.0, None)]
        if not self.ends:
            raise OutOfTimeError("its 150 s are over")
        for profile in sets:
            into[profile].append(Timing("plain", 10, 0, 2.0, None))
        return {profile: [replace(one, tokens=160) for one in timings] for profile, timings in into.items()}


def test_timings_have_their_tokens_and_stay_where_time_runs_out() -> None:
    """Plain encode has the tokens that the engine counted; what was timed before the end of the time is kept."""
    found = measured()
    found.texts = {profile: ["a text"] for profile in PROFILES}
    stages.time_in_process(Meter(ends=True), Service(), found)  # type: ignore[arg-type]
    assert [(one.way, one.tokens) for one in found.profiles["long"].timings] == [("engine", 160), ("plain", 160)]
    with pytest.raises(OutOfTimeError):
        stages.time_in_process(Meter(ends=False), Service(), found)  # type: ignore[arg-type]
    assert [one.way for one in found.profiles["long"].timings] == ["engine"]


def test_an_infinity_that_answers_nothing_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage says what came instead, keeps the loops, and the headline has no ratio of them."""
    failing = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nno op"
    found = measured()
    found.peers = []
    found.phases = Service()  # type: ignore[assignment]
    (tmp_path / "infinity_emb").touch()
    with serving(lambda number: (0.0, failing)) as server:

        @contextlib.contextmanager
        def running(*_: object, **__: object) -> Iterator[Target]:
            yield server.target

        monkeypatch.setattr(peers, "running", running)
        with pytest.raises(OpsError, match=r"nothing in 2 of 2 loops, such as short, .*4 × 500\nno op"):
            stages.infinity(here_in(tmp_path), found, tmp_path)
    assert [point.figures.answered for point in found.peers] == [0, 0]
    found.phases = None
    said = judge.headline(plan_of(arguments("cuda")), found, {"infinity": "it answered nothing"})
    assert "infinity answered nothing in 2 of 2 loops" in said
    assert "times infinity" not in said
    found.peers += measured().peers
    said = judge.headline(plan_of(arguments("cuda")), found, {})
    assert "3.0 times infinity or more; infinity answered nothing in 2 of 3 loops" in said
