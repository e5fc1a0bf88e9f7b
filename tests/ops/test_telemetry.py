"""The workers' files: written by real workers' telemetry, folded when they are dead, and one damaged."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from ops.exporter.families import FAMILIES, Families
from ops.exporter.sources.workers import map_measured
from ops.telemetry import FOLDED, DamagedFileError, Measured, WorkerFiles, last_answers, read_file
from tests.ops.exporter.reading import value

WRITE = """
import os, sys
from pathlib import Path
folder, batches = Path(sys.argv[1]), int(sys.argv[2])
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
from handlers.items import Item
from handlers.telemetry import STAGES, Telemetry, WorkerFacts
facts = WorkerFacts(pid=os.getpid(), model="m", version="1", device="cpu", device_name="cpu", dtype="float32",
                    fingerprint="f", loaded_at=0.0, dimensions=1, max_tokens=1, reason="r")
telemetry = Telemetry(facts, folder)
for _ in range(batches):
    for stage in STAGES:
        with telemetry.stage(stage, [Item()]):
            pass
    with telemetry.stage("decode", [Item(canary=True)]):
        pass
    telemetry.batch(texts=2, tokens=10, padded=16, truncated=1)
    telemetry.answered(0.25)
print(os.getpid())
"""


def worker(folder: Path, batches: int) -> int:
    """A worker's whole life; returns its pid."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(folder), str(batches)], check=True, capture_output=True, timeout=60
    )
    return int(done.stdout)


def totals(measured: Measured) -> dict[str, float]:
    """What is added up of everything, by the sample's name and labels; what a worker is at is its own alone."""
    return {
        f"{one.name}{sorted(one.labels.items())}": one.value
        for one in measured.samples()
        if one.name != "embedkit_batch_begun_seconds"
    }


def texts(measured: Measured) -> float:
    return next(one.value for one in measured.samples() if one.name == "embedding_texts_total")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, int]]:
    """Two workers' files."""
    folder = tmp_path_factory.mktemp("telemetry")
    return folder, (worker(folder, 3), worker(folder, 4))


@pytest.fixture
def folder(written: tuple[Path, tuple[int, int]], tmp_path: Path) -> Path:
    for path in written[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_they_add_up_as_prometheus_client_has_it(folder: Path) -> None:
    """The same sums and cumulative buckets that prometheus_client's own collector makes of the files."""
    collector = MultiProcessCollector(CollectorRegistry(), path=str(folder))  # type: ignore[no-untyped-call]
    theirs = {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in collector.collect()  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    assert totals(WorkerFiles(folder).read()) == theirs


def test_every_family_is_in_the_exporters_table(folder: Path) -> None:
    """What a worker writes is what the exporter knows of workers, and the canary's stage is not in it."""
    families = Families()
    map_measured(WorkerFiles(folder).read(), families)
    given = {metric.name for metric in families}
    known = {one.name.removesuffix("_total") for one in FAMILIES.values() if one.source == "workers"}
    assert given == known - {"embedding_model_info"}
    assert value(families, "embedding_padded_tokens_total", model="m") == 7 * 16
    stage = {"model": "m", "device": "cpu", "stage": "decode"}
    assert value(families, "embedding_stage_duration_seconds_count", **stage) == 7


def test_dead_workers_are_folded_and_nothing_is_lost(folder: Path, written: tuple[Path, tuple[int, int]]) -> None:
    """The dead one's files and card go, its counts stay; then the other's, and the sums are the same all along."""
    first, second = written[1]
    files = WorkerFiles(folder)
    before = totals(files.read())

    assert totals(files.read_and_fold(lambda pid: pid != first)) == before
    assert totals(files.read()) == before
    assert {path.stem.rpartition("_")[2] for path in folder.glob("*.db")} == {str(second)}
    assert [path.name for path in folder.glob("worker-*.json")] == [f"worker-{second}.json"]
    files.read_and_fold(lambda pid: False)
    assert [path.name for path in folder.iterdir()] == [FOLDED]
    assert totals(WorkerFiles(folder).read()) == before
    assert last_answers(folder)["m"].latency_s == 0.25


def test_a_fold_that_is_interrupted_counts_once(folder: Path, written: tuple[Path, tuple[int, int]]) -> None:
    """Killed between writing the fold and removing the files: they are in it, so they do not count beside it."""
    before = totals(WorkerFiles(folder).read())
    kept = {path.name: path.read_bytes() for path in folder.glob(f"*_{written[1][0]}.db")}
    WorkerFiles(folder).read_and_fold(lambda pid: pid != written[1][0])
    fold = orjson.loads((folder / FOLDED).read_bytes())
    (folder / FOLDED).write_bytes(orjson.dumps({**fold, "files": list(kept)}))
    for name, content in kept.items():
        (folder / name).write_bytes(content)

    again = WorkerFiles(folder)
    assert totals(again.read()) == before
    assert totals(again.read_and_fold(lambda pid: True)) == before
    assert [name for name in kept if (folder / name).exists()] == []


def test_a_later_worker_may_have_a_dead_ones_pid(folder: Path, written: tuple[Path, tuple[int, int]]) -> None:
    """After folding, files of that number are another worker's and count."""
    files = WorkerFiles(folder)
    kept = {path.name: path.read_bytes() for path in folder.glob(f"*_{written[1][0]}.db")}
    files.read_and_fold(lambda pid: False)
    before = texts(files.read())
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    assert texts(files.read()) == before + 3 * 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:9],
        lambda content: b"",
        lambda content: b"\xff" * 4096,
        lambda content: content[:12] + os.urandom(64) + content[76:],
        lambda content: content.replace(b'"embedding_', b'"\xffmbedding_', 1),
        lambda content: (2**31 - 1).to_bytes(4, "little") + content[4:],
    ],
    ids=["cut", "empty", "ones", "random", "no text", "endless"],
)
def test_a_damaged_file_is_told_and_its_last_values_stay(damage: object, folder: Path) -> None:
    """One file is spoiled under way: the sums stay, it is named, and a reader that never saw it whole goes on."""
    files = WorkerFiles(folder)
    before = totals(files.read())
    spoiled = min(folder.glob("counter_*.db"))
    spoiled.write_bytes(damage(spoiled.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DamagedFileError, match=spoiled.name):
        read_file(spoiled)

    measured = files.read_and_fold(lambda pid: False)
    assert totals(measured) == before
    assert measured.damaged == [spoiled]
    assert spoiled.exists()
    fresh = WorkerFiles(folder).read()
    assert fresh.damaged == [spoiled]
    assert texts(fresh) in (3 * 2, 4 * 2)


def test_a_damaged_fold_is_told(folder: Path) -> None:
    """The last sound one stays; who never saw it goes on without."""
    files = WorkerFiles(folder)
    before = totals(files.read_and_fold(lambda pid: False))
    files.read()
    (folder / FOLDED).write_bytes(b'{"files": 3, "values": {"counter": []}}')
    measured = files.read()
    assert (totals(measured), measured.damaged) == (before, [folder / FOLDED])
    assert totals(WorkerFiles(folder).read()) == {}
