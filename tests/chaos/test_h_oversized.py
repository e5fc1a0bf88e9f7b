"""Legal requests that are more than a worker can do in its time, among good ones."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from tests.chaos import site
from tests.chaos.table import Row
from tests.chaos.trial import Trial
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

TIMEOUT_S = 4
TEXTS, TEXT_WORDS, TRIES = 2000, 250, 3
CLIENTS, DOCUMENTS, CHARACTERS = 14, 80, 100_000
KEPT_MB = 300
WORDS = ("the", "river", "runs", "slowly", "through", "ancient", "valley", "while", "birds", "answer", "each", "other")


def test_one_request_of_more_than_there_is_time_for(
    fresh_stack: Callable[[], Stack], record: Callable[[Row], None]
) -> None:
    """Sent again and again, as clients do, it is refused in the kit's form each time; the workers stay, and every good
    request is answered."""
    stack = fresh_stack()
    catalogue = stack.folder / "models.toml"
    catalogue.write_text(catalogue.read_text().replace("[minilm]\n", f"[minilm]\nresponse_timeout_s = {TIMEOUT_S}\n"))
    stack.embedkit("up")
    body = {"input": prose(TEXTS, TEXT_WORDS)}
    seen: Counter[str] = Counter()

    def strike() -> None:
        for _ in range(TRIES):
            seen[said(requests.post(stack.url(), json=body, timeout=60))] += 1

    trial = Trial(stack, record)
    with trial:
        trial.strike(strike)
    trial.row(
        410,
        f"a request of {TEXTS:,} texts of {TEXT_WORDS} words, {TRIES} times; response_timeout_s = {TIMEOUT_S}",
        "same worker pids, refused in the kit's form, every good one answered right",
        met=site.footprint(stack).workers == trial.before.workers
        and not trial.toll.failed
        and seen.keys() == {"413 too_many_tokens"},
        note=told(seen),
    )


def test_many_long_documents_at_once(stack: Stack, record: Callable[[Row], None]) -> None:
    """Texts far longer than the model reads cost what it reads of them; the memory comes back."""
    (text,) = prose(1, CHARACTERS // 4)
    bodies = [
        {"input": [f"{client} {number} {text}"[:CHARACTERS] for number in range(DOCUMENTS)]}
        for client in range(CLIENTS)
    ]
    seen: Counter[str] = Counter()

    def strike() -> None:
        with ThreadPoolExecutor(CLIENTS) as clients:
            seen.update(said(answer) for answer in clients.map(send, bodies))

    def send(body: object) -> requests.Response:
        return requests.post(stack.url(), json=body, timeout=180)

    trial = Trial(stack, record)
    with trial:
        before = of_workers(trial)
        trial.strike(strike)
    after = of_workers(trial)
    trial.row(
        420,
        f"{CLIENTS} clients at once, {DOCUMENTS} texts of {CHARACTERS:,} characters each",
        f"same worker pids, vectors or the kit's errors, every good one answered right, at most {KEPT_MB} MB a worker "
        "kept",
        met=site.footprint(stack).workers == trial.before.workers
        and not trial.toll.failed
        and seen.keys() <= {"200", "413 too_many_tokens", "503 overloaded"}
        and max(after) <= max(before) + KEPT_MB,
        note=f"{told(seen)}; MB of the workers: {before} → {after}",
    )


def prose(count: int, words: int) -> list[str]:
    chance = random.Random(count)
    return [" ".join(chance.choices(WORDS, k=words)) for _ in range(count)]


def said(answer: requests.Response) -> str:
    """The status, and the kit's code where there is one."""
    try:
        return " ".join([str(answer.status_code), *([answer.json()["error"]["code"]] if not answer.ok else [])])
    except (ValueError, KeyError):
        return f"{answer.status_code} {answer.text[:80]}"


def told(seen: Counter[str]) -> str:
    return ", ".join(f"{outcome}: {count}" for outcome, count in sorted(seen.items()))


def of_workers(trial: Trial) -> Sequence[int]:
    """Resident MB of each of minilm's workers that there were before."""
    alive = [pid for pid in sorted(trial.before.workers["minilm"]) if psutil.pid_exists(pid)]
    return [psutil.Process(pid).memory_info().rss // site.MB for pid in alive]
