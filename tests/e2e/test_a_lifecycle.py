"""`embedkit up` and its second run, status, embed, doctor: what a user meets in the first minutes."""

import os
import subprocess
import time

import numpy as np
import orjson
import pytest
import requests
from sentence_transformers import SentenceTransformer

from ops.probe import MIN_COSINE
from tests import patience
from tests.e2e.stack import BIN, TEXT, Stack
from tests.model_folders import minilm_folder

pytestmark = pytest.mark.e2e


def test_up_prints_what_runs_where(stack: Stack, first_up: str) -> None:
    """The first `up` ends with a table of program, port and log, and commands to try next."""
    for shown in (
        "torchserve",
        "runs, pid",
        str(stack.settings.inference_port),
        "torchserve.log",
        "embedkit embed",
        "curl",
    ):
        assert shown in first_up


def test_health_asks_for_a_vector(stack: Stack) -> None:
    """`embedkit health` says what each served model answered."""
    found = orjson.loads(stack.embedkit("health", "--json").stdout)
    assert found["ok"]
    assert [(one["model"], one["outcome"]) for one in found["models"]] == [("minilm", "ok")]


def test_the_vector_is_the_models(stack: Stack) -> None:
    """What comes back over HTTP is what sentence-transformers computes in process, as near as `auto` may come."""
    model = SentenceTransformer(str(minilm_folder()), device="cpu")
    expected = model.encode(TEXT, normalize_embeddings=True)
    found = stack.embed()
    assert float(expected @ found) >= MIN_COSINE
    assert abs(float(np.linalg.norm(found)) - 1) < 1e-5


def test_a_second_up_changes_nothing(stack: Stack) -> None:
    """Again `up`: the same JVM, the same workers, and it returns in seconds."""
    before = (stack.jvm_pid(), stack.worker_pids())
    started = time.monotonic()
    again = orjson.loads(stack.embedkit("up", "--json").stdout)
    assert time.monotonic() - started < 10
    assert (stack.jvm_pid(), stack.worker_pids()) == before
    assert again["models"]["minilm"]["cosine"] >= MIN_COSINE


@pytest.mark.needs("haproxy")
def test_up_ends_with_every_program_answering(stack: Stack) -> None:
    """With the exporter away `up` brings it back, and `/healthz` is 200 the moment that it ends."""
    stack.supervisorctl("stop", "exporter")
    stack.embedkit("up")
    health = requests.get(stack.settings.gateway_url("/healthz"), timeout=5)
    assert (health.status_code, health.json()["status"]) == (200, "healthy")


def test_two_ups_at_once_follow_each_other(stack: Stack) -> None:
    """A second `up` beside a first waits for it; both succeed and one server runs."""
    command = [str(BIN / "embedkit"), "up"]
    both = [
        subprocess.Popen(command, env=stack.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    for one in both:
        _, err = one.communicate(timeout=patience.scaled(120))
        assert one.returncode == 0, err
    assert stack.jvm_pid()


@pytest.mark.needs("haproxy")
def test_status_shows_workers_device_and_the_last_answer(stack: Stack) -> None:
    """Status names process, workers, device, version, and age and latency of the last real answer; JVM and workers are
    a batch job to the kernel."""
    stack.embed()
    found = stack.status()
    assert found["ok"]
    assert {one["name"] for one in found["programs"]} == {"torchserve", "exporter", "watchdog", "gateway"}
    model = found["models"][0]
    assert (model["model"], model["version"], model["devices"]) == ("minilm", "1.0", ["cpu"])
    assert model["workers_ready"] == model["workers_wanted"] == len(model["pids"])
    assert set(model["pids"]) == stack.worker_pids()
    assert {os.sched_getscheduler(pid) for pid in (stack.jvm_pid(), *model["pids"])} == {os.SCHED_BATCH}
    assert 0 <= model["last_answer_age_s"] < 30
    assert 0 < model["last_answer_latency_s"] < 5
    assert model["probe"]["cosine"] >= MIN_COSINE
    assert "minilm" in stack.embedkit("status").stdout


def test_embed_shows_likeness(stack: Stack) -> None:
    """`embedkit embed` gives vectors, and --json the answer as it came; an unknown model names those served."""
    shown = stack.embedkit("embed", "a cat", "a kitten", "a bank loan").stdout
    assert "3 × 384" in shown
    answer = orjson.loads(stack.embedkit("embed", "--json", "a cat").stdout)
    assert len(answer["data"][0]["embedding"]) == 384
    refused = stack.embedkit("embed", "--model", "nonsense", "a cat", check=False)
    assert refused.returncode == 1
    assert "served: minilm" in refused.stderr


def test_the_doctor_finds_this_machine_fit(stack: Stack) -> None:
    """With the service up every check passes: its ports are its own processes', and the memory that it holds is no loss
    for the models that it serves."""
    found = orjson.loads(stack.embedkit("doctor", "--json", check=False).stdout)
    assert [one for one in found["findings"] if one["status"] == "fail"] == []
    assert found["ok"]
    by_name = {one["check"]: one for one in found["findings"]}
    assert by_name["ports"]["detail"].startswith("in use by this kit: inference")
    assert "free" not in by_name["ports"]["detail"]
    assert "of it held by this kit" in by_name["memory"]["detail"]
    assert by_name["placement"]["status"] == "ok"
    assert by_name["archive minilm"]["status"] == "ok"
    assert "model minilm" in by_name


def test_accept_judges_the_served_model(stack: Stack) -> None:
    """`embedkit accept` passes the real minilm: meaning, parity, norm, workers, device."""
    report = orjson.loads(stack.embedkit("accept", "minilm", "--json").stdout)
    assert {one["check"] for one in report["checks"]} == {
        "served",
        "meaning",
        "normalised",
        "parity",
        "workers",
        "device",
    }
    assert all(one["ok"] for one in report["checks"])


def test_errors_of_a_user_are_sentences(stack: Stack) -> None:
    """A misspelt model or setting is answered with what is known, without a traceback."""
    misspelt = stack.embedkit("up", "minilmm", check=False)
    assert misspelt.returncode == 1
    assert "did you mean minilm" in misspelt.stderr
    stack.environ["EMBEDKIT_INFERENCE_PROT"] = "1"
    try:
        wrong = stack.embedkit("status", check=False)
    finally:
        del stack.environ["EMBEDKIT_INFERENCE_PROT"]
    assert "EMBEDKIT_INFERENCE_PROT: did you mean inference_port" in wrong.stderr
    assert "Traceback" not in misspelt.stderr + wrong.stderr
