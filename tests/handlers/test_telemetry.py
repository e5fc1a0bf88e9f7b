"""What a worker writes for the exporter, in processes of their own: that is how the files are read."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from handlers.telemetry import telemetry_folder
from tests.handlers.torchserve_wire import Worker, json_body, unpack

SERVE = """
import os, sys
from pathlib import Path
from handlers.sentence_handler import SentenceHandler
from tests.handlers.torchserve_wire import Worker, json_body, raw_body
worker = Worker(SentenceHandler(), Path(sys.argv[1]))
answers = worker.ask(json_body({"input": ["one", "word " * 1000]}), raw_body(b"{"))
answers += worker.ask(raw_body(b"{"))
if os.environ.get("EMBEDKIT_CANARY_TOKEN"):
    answers += worker.ask(json_body({"input": "a canary alone"}, X_Embedkit_Canary="s3cret"))
    answers += worker.ask(
        json_body({"input": "a canary"}, X_Embedkit_Canary="s3cret"), json_body({"input": "beside it"})
    )
    answers += worker.ask(json_body({"input": "a guess"}, X_Embedkit_Canary="guess"))
print(os.getpid(), *(answer.status for answer in answers))
"""

MEASURE = """
import logging, resource, sys
from pathlib import Path
from handlers.items import Item
from handlers.telemetry import Telemetry, WorkerFacts
logging.basicConfig()
if limit := int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
facts = WorkerFacts(pid=1, model="m", version="1", device="cpu", device_name="cpu", dtype="float32",
                    fingerprint="f", loaded_at=0.0, dimensions=1, max_tokens=1, reason="r")
telemetry = Telemetry(facts, Path(sys.argv[1]))
with telemetry.stage("decode", [Item()]):
    pass
telemetry.batch(texts=1, tokens=1, padded=1, truncated=1)
telemetry.answered(1.0)
print("alive")
"""


def run(script: str, *arguments: str, telemetry: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EMBEDKIT_TELEMETRY_DIR": str(telemetry), "PROMETHEUS_MULTIPROC_DIR": str(telemetry)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)


def samples(folder: Path) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_a_worker_says_what_it_is_and_counts(bge_folder: Path, tmp_path: Path) -> None:
    """The worker's file and every metric of the two batches: one with two texts, one of errors alone."""
    unpacked = unpack(tmp_path / "unpacked", bge_folder, device="cpu", max_tokens=64)
    done = run(SERVE, str(unpacked), telemetry=tmp_path / "telemetry")
    pid, *statuses = map(int, done.stdout.split())
    found = samples(tmp_path / "telemetry")
    facts: dict[str, Any] = json.loads((tmp_path / "telemetry" / f"worker-{pid}.json").read_text())

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset({"model": "tested", **labels}.items())]

    assert statuses == [200, 400, 400]
    assert facts.keys() == {
        "pid", "model", "version", "device", "device_name", "backend", "dtype", "decision", "fingerprint",
        "loaded_at", "dimensions", "max_tokens", "max_request_tokens", "reason",
    }  # fmt: skip
    assert (facts["pid"], facts["model"], facts["device"], facts["max_tokens"]) == (pid, "tested", "cpu", 64)
    stages = {
        stage: value("embedding_stage_duration_seconds_count", device="cpu", stage=stage)
        for stage in ("decode", "tokenize", "forward", "encode")
    }
    assert stages == {"decode": 2, "tokenize": 1, "forward": 1, "encode": 2}
    assert value("embedding_batch_texts_count") == 1
    assert value("embedding_batch_texts_sum") == value("embedding_texts_total") == 2
    assert value("embedding_batch_tokens_sum") == value("embedding_tokens_total") == 64 + 5
    assert value("embedding_truncated_texts_total") == 1
    assert value("embedding_last_answer_timestamp_seconds") >= facts["loaded_at"]
    assert 0 < value("embedding_last_answer_latency_seconds") < 60


def test_canaries_are_answered_and_not_counted(
    bge_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone it leaves no trace, in company the others count as ever; without the secret it is anybody's request."""
    monkeypatch.setenv("EMBEDKIT_CANARY_TOKEN", "s3cret")
    unpacked = unpack(tmp_path / "unpacked", bge_folder, device="cpu", max_tokens=64)
    done = run(SERVE, str(unpacked), telemetry=tmp_path / "telemetry")
    _, *statuses = map(int, done.stdout.split())
    found = samples(tmp_path / "telemetry")
    model = frozenset({("model", "tested")})
    stage = frozenset({("model", "tested"), ("device", "cpu"), ("stage", "forward")})

    assert statuses == [200, 400, 400, 200, 200, 200, 200]
    assert found["embedding_texts_total", model] == 2 + 1 + 1
    assert found["embedding_batch_texts_count", model] == 3
    assert found["embedding_stage_duration_seconds_count", stage] == 3
    assert found["embedding_padded_tokens_total", model] >= found["embedding_tokens_total", model]


WORK = """
import os, sys
from pathlib import Path
from handlers.sentence_handler import SentenceHandler
from ops.supervisor.watchdog.eyes import activity
from tests.handlers.torchserve_wire import Worker, json_body
folder = Path(os.environ["EMBEDKIT_TELEMETRY_DIR"])
worker = Worker(SentenceHandler(), Path(sys.argv[1]))
embed = worker.handler.engine.embed
def watched(tokens, deadline):
    found = activity(folder, os.getpid())
    print(found.begun is not None, found.canaries, found.texts)
    if os.environ.get("FAIL"):
        raise SystemExit
    return embed(tokens, deadline)
worker.handler.engine.embed = watched
try:
    worker.ask(json_body({"input": "a text"}))
    worker.ask(json_body({"input": "a canary"}, X_Embedkit_Canary="s3cret"))
    worker.ask(json_body({"input": "a canary"}, X_Embedkit_Canary="s3cret"), json_body({"input": "a text"}))
except SystemExit:
    pass
found = activity(folder, os.getpid())
print(found.begun is not None, found.canaries, found.texts)
"""


def test_a_worker_says_what_it_is_at(bge_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the watchdog reads it: at users' texts, at canaries alone, at both, and at nothing, also after a failure."""
    monkeypatch.setenv("EMBEDKIT_CANARY_TOKEN", "s3cret")
    unpacked = unpack(tmp_path / "unpacked", bge_folder, device="cpu", max_tokens=64)
    done = run(WORK, str(unpacked), telemetry=tmp_path / "telemetry")
    assert done.stdout.splitlines() == ["True False 0.0", "True True 1.0", "True False 1.0", "False False 2.0"]
    monkeypatch.setenv("FAIL", "1")
    done = run(WORK, str(unpacked), telemetry=tmp_path / "failing")
    assert done.stdout.splitlines() == ["True False 0.0", "False False 0.0"]


def test_without_a_folder_nothing_is_measured(minilm: Worker, tmp_path: Path) -> None:
    """Telemetry is off where nobody asked for it, and the worker answers."""
    assert telemetry_folder() is None
    assert minilm.ask_one(json_body({"input": "a"})).status == 200


@pytest.mark.parametrize(("name", "file_limit"), [("telemetry", 4096), ("telemetry", 16), ("a-file/below", 0)])
def test_a_folder_without_room_costs_the_metrics_alone(name: str, file_limit: int, tmp_path: Path) -> None:
    """A full disk, or no folder at all: the worker goes on, and the log says it once."""
    (tmp_path / "a-file").touch()

    done = run(MEASURE, str(tmp_path / name), str(file_limit), telemetry=tmp_path / name)

    assert done.stdout == "alive\n"
    assert done.stderr.count("embedkit: no telemetry in") == 1


def test_a_measurement_that_fails_ends_the_measuring_alone(tmp_path: Path) -> None:
    """Whatever goes wrong later is said once, and raises nothing."""
    wrong = "telemetry.batch(texts=1, tokens='many', padded=1, truncated=1)\n"
    script = MEASURE.replace("telemetry.answered", wrong * 2 + "telemetry.answered")
    done = run(script, str(tmp_path), "0", telemetry=tmp_path)

    assert done.stdout == "alive\n"
    assert done.stderr.count("telemetry is off from here") == 1
