"""From what a source says to families: management, supervisord, NVML, canaries."""

import os
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from ops.canary import mark_of
from ops.desired import Served, desired_file, write_models
from ops.exporter.families import Families
from ops.exporter.source import AbsentError, SourceError
from ops.exporter.sources import torchserve
from ops.exporter.sources.canary import CanaryCounts, CanarySource
from ops.exporter.sources.host import HostSource
from ops.exporter.sources.nvml import NvmlSource
from ops.exporter.sources.supervisor import SupervisorSource, map_programs
from ops.exporter.sources.torchserve import ManagementSource, map_queues, map_workers
from ops.probe import Outcome, Probe, Reference
from ops.prober import Prober, Tried
from ops.prometheus.thresholds import MEMORY_AVAILABLE_RATIO
from ops.settings import Settings
from ops.supervisor.control import Program
from ops.top.figures import parse
from ops.torchserve.management import Loaded, Management, ManagementError, Worker
from tests.env.control_groups import control_groups
from tests.ops.exporter.reading import value

GIB = 2**30


def loaded(*workers: Worker, version: str = "1.0", pending: int = 3) -> Loaded:
    return Loaded("m", version, "m.mar", 2, 32, workers, 97, pending)


def test_workers_by_state_and_queues_by_model() -> None:
    """Every known state has its series, unknown ones are OTHER; the queues of two versions are added up."""
    families = Families()
    versions = [
        loaded(Worker("9000", "READY", 11, 0), Worker("9001", "SURPRISE", -1, 0)),
        loaded(version="2.0", pending=4),
    ]
    map_workers(versions, lambda pid: (5 * GIB, 1.5e9) if pid == 11 else None, families)
    map_queues(versions, families)
    states = {
        state: value(families, "torchserve_workers", model="m", version="1.0", state=state)
        for state in ("READY", "UNLOADING", "OTHER")
    }
    assert states == {"READY": 1, "UNLOADING": 0, "OTHER": 1}
    assert value(families, "torchserve_worker_memory_bytes", model="m", pid="11") == 5 * GIB
    assert value(families, "torchserve_workers_wanted", model="m", version="2.0") == 2
    assert value(families, "torchserve_queue_length", model="m") == 7
    assert value(families, "torchserve_queue_capacity", model="m") == 97 + 97 + 7


@pytest.mark.parametrize(("on_gpu", "asked"), [(False, 3), (True, 1)])
def test_gpu_workers_are_asked_about_seldom(
    on_gpu: bool, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three scrapes in a row: on a GPU, where TorchServe would run nvidia-smi each time, one answer serves."""
    calls: list[str] = []

    def describe(_self: Management, model: str) -> list[Loaded]:
        calls.append(model)
        return [loaded(Worker("9000", "READY", -1, 0, on_gpu))]

    monkeypatch.setattr(Management, "models", lambda _self: ["m"])
    monkeypatch.setattr(Management, "describe", describe)
    source = ManagementSource(Settings(var=tmp_path))
    for _ in range(3):
        source.fetch(Families())
    assert len(calls) == asked
    monkeypatch.setattr(torchserve, "GPU_INTERVAL_S", 0.0)
    source.fetch(Families())
    deadline = time.monotonic() + 10
    while len(calls) <= asked and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(calls) == asked + 1


def test_a_slow_answer_about_gpu_workers_holds_no_scrape_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While TorchServe waits for nvidia-smi the last answer serves, asked for once; a call that fails is told."""
    release, calls = threading.Event(), list[int]()

    def describe(_self: Management, _model: str) -> list[Loaded]:
        calls.append(1)
        if len(calls) > 1:
            release.wait(10)
            raise ManagementError("gone")
        return [loaded(Worker("9000", "READY", -1, 0, on_gpu=True))]

    monkeypatch.setattr(torchserve, "GPU_INTERVAL_S", 0.0)
    monkeypatch.setattr(Management, "models", lambda _self: ["m"])
    monkeypatch.setattr(Management, "describe", describe)
    source = ManagementSource(Settings(var=tmp_path))
    for _ in range(4):
        families = Families()
        source.fetch(families)
        assert value(families, "torchserve_up") == 1
    release.set()
    for thread in threading.enumerate():
        if thread.name == "management refresh":
            thread.join(10)
    assert len(calls) == 2
    with pytest.raises(SourceError):
        source.fetch(Families())


def test_programs_are_one_hot() -> None:
    """One state is 1, all others 0; start and exit status beside it."""
    families = Families()
    map_programs([Program("torchserve", "FATAL", 0, 0, 1700, 3, "", "log")], families)
    states = {state: value(families, "supervisor_process_state", name="torchserve", state=state)
              for state in ("FATAL", "RUNNING", "STOPPED")}  # fmt: skip
    assert states == {"FATAL": 1, "RUNNING": 0, "STOPPED": 0}
    assert value(families, "supervisor_process_start_time_seconds", name="torchserve") == 1700
    assert value(families, "supervisor_process_exit_status", name="torchserve") == 3


def test_no_supervisord_is_unreachable(tmp_path: Path) -> None:
    """Without its socket the source says so, in its kind."""
    with pytest.raises(SourceError) as raised:
        SupervisorSource(Settings(var=tmp_path)).fetch(Families())
    assert raised.value.kind == "unreachable"


def test_the_host_before_its_folders_are_there(tmp_path: Path) -> None:
    """A folder that is not made yet has the room of the one that it will lie in."""
    families = Families()
    HostSource(Settings(var=tmp_path / "a" / "b", store=tmp_path / "c")).fetch(families)
    for volume in ("logs", "temp", "store"):
        assert (value(families, "host_filesystem_free_bytes", volume=volume) or 0) > 0
    assert (value(families, "host_memory_available_bytes") or 0) > 0


IN_A_CONTAINER = """
import pathlib, sys
taken = b"x" * (360 << 20)
from ops.exporter.families import Families
from ops.exporter.sources.host import HostSource
from ops.settings import Settings
from tests.ops.exporter.reading import text
families = Families()
HostSource(Settings(var="/nonexistent/a", store="/nonexistent/b")).fetch(families)
sys.stdout.write(text(families))
"""


def test_the_limits_of_a_container_rule() -> None:
    """In a real control group that is nearly full HostMemoryLow's ratio is below its bar, whatever the machine has
    free; the cores are the quota's, and the machine's load, which is not theirs, is left out."""
    with control_groups() as groups:
        groups.limit(memory=400 << 20, cores=1.5)
        shown = parse(groups.run(IN_A_CONTAINER), 0)
        assert shown.total("host_memory_total_bytes") == 400 << 20
        left = shown.total("host_memory_available_bytes")
        assert left is not None
        assert left / (400 << 20) < MEMORY_AVAILABLE_RATIO
        assert shown.total("host_cpus") == min(1.5, len(os.sched_getaffinity(0)))
        assert shown.total("host_load1") is None


class Nvml:
    """pynvml's functions with the answers of two GPUs: one tells everything, one is old and tells little.

    Made from the types and values of NVML's documentation; no GPU was at hand to capture them from.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.lost: set[int] = set()
        thermal = pynvml.nvmlClocksThrottleReasonSwThermalSlowdown | pynvml.nvmlClocksThrottleReasonGpuIdle
        answers: dict[str, Any] = {
            "nvmlInit": self._begin,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: "580.65.06",
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": self._handle,
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
            "nvmlDeviceGetName": lambda handle: "NVIDIA H100 80GB HBM3",
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=3 * GIB, total=80 * GIB, free=77 * GIB),
            "nvmlDeviceGetUtilizationRates": self._new(SimpleNamespace(gpu=37, memory=12)),
            "nvmlDeviceGetPowerUsage": self._new(312_500),
            "nvmlDeviceGetTemperature": lambda handle, sensor: 61,
            "nvmlDeviceGetClockInfo": lambda handle, clock: 1980 if clock == pynvml.NVML_CLOCK_SM else 2619,
            "nvmlDeviceGetCurrentClocksThrottleReasons": self._new(thermal),
            "nvmlDeviceGetTotalEccErrors": self._new(2),
            "nvmlDeviceGetComputeRunningProcesses": self._new(
                [SimpleNamespace(pid=11, usedGpuMemory=2 * GIB), SimpleNamespace(pid=12, usedGpuMemory=None)]
            ),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(pynvml, name, answer)

    def _begin(self) -> None:
        self.begun += 1

    def _handle(self, index: int) -> int:
        if index in self.lost:
            raise pynvml.NVMLError_GpuIsLost()
        return index

    def _new(self, answer: Any) -> Any:
        def ask(handle: int, *_: object) -> Any:
            if handle == 1:
                raise pynvml.NVMLError_NotSupported()
            return answer

        return ask


def test_a_gpu_in_base_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Percent, milliwatts and megahertz become ratio, watts and hertz; what a GPU does not tell is not there."""
    Nvml(monkeypatch)
    (tmp_path / "embedkit-telemetry").mkdir()
    card = (
        '{"pid": 11, "model": "m", "version": "1", "device": "cuda:0", "device_name": "", "backend": "torch", '
        '"dtype": "f", "fingerprint": "f", "reason": ""}'
    )
    (tmp_path / "embedkit-telemetry" / "worker-11.json").write_text(card)
    families = Families()
    NvmlSource(Settings(var=tmp_path)).fetch(families)

    told = {"uuid": "GPU-0"}
    assert value(families, "gpu_utilization_ratio", **told) == pytest.approx(0.37)
    assert value(families, "gpu_power_watts", **told) == pytest.approx(312.5)
    assert value(families, "gpu_sm_clock_hertz", **told) == 1.98e9
    assert value(families, "gpu_memory_clock_hertz", **told) == 2.619e9
    assert value(families, "gpu_memory_used_bytes", **told) == 3 * GIB
    assert value(families, "gpu_throttle", **told, reason="sw_thermal") == 1
    assert value(families, "gpu_throttle", **told, reason="power_cap") == 0
    assert value(families, "gpu_ecc_errors_total", **told, kind="uncorrected") == 2
    assert value(families, "gpu_process_memory_bytes", **told, pid="11", model="m") == 2 * GIB
    assert value(families, "gpu_process_memory_bytes", **told, pid="", model="") == 0
    assert value(families, "gpu_power_watts", uuid="GPU-1") is None
    assert value(families, "gpu_temperature_celsius", uuid="GPU-1") == 61


def test_a_lost_gpu_costs_its_own_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other stays, the loss is counted, and NVML is begun anew for the next scrape."""
    nvml = Nvml(monkeypatch)
    nvml.lost = {1}
    source = NvmlSource(Settings(var=tmp_path))
    for scrape in (1, 2):
        families = Families()
        source.fetch(families)
        assert value(families, "gpu_temperature_celsius", uuid="GPU-0") == 61
        assert value(families, "gpu_temperature_celsius", uuid="GPU-1") is None
        assert (source.errors["failed"], nvml.begun) == (scrape, scrape)


def test_no_gpu_left_is_a_source_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every GPU lost the source is down, not up and empty."""
    Nvml(monkeypatch).lost = {0, 1}
    with pytest.raises(SourceError, match="all 2 GPUs are lost"):
        NvmlSource(Settings(var=tmp_path)).fetch(Families())


@pytest.mark.parametrize(
    ("error", "raised"),
    [(pynvml.NVMLError_LibraryNotFound, AbsentError), (pynvml.NVMLError_DriverNotLoaded, SourceError)],
)
def test_no_driver_is_absent_and_a_broken_one_down(
    error: type[Exception], raised: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By design without a GPU; a fault where the library is there and the driver is not."""

    def begin() -> None:
        raise error()

    monkeypatch.setattr(pynvml, "nvmlInit", begin)
    with pytest.raises(raised):
        NvmlSource(Settings(var=tmp_path)).fetch(Families())


def test_canaries_by_outcome() -> None:
    """Only good ones are timed; a wrong vector's cosine is told; success is the last one's."""
    counts = CanaryCounts()
    told: list[tuple[Outcome, float | None]] = [("ok", 1.0), ("ok", 0.9999), ("timeout", None), ("wrong_vector", 0.3)]
    for at, (outcome, cosine) in enumerate(told):
        counts.hear(Tried(Probe("m", 0.02, cosine, "" if outcome == "ok" else "bad", outcome), 100.0 + at))
    families = Families()
    reference = Reference("a", (1.0,), 0.9993)
    counts.add_to(families, "canary", "m", reference)
    counts.add_cosines(families, "m", reference)
    outcomes = {each: value(families, "canary_probes_total", model="m", outcome=each)
                for each in ("ok", "wrong_vector", "refused", "timeout", "unreachable")}  # fmt: skip
    assert outcomes == {"ok": 2, "wrong_vector": 1, "refused": 0, "timeout": 1, "unreachable": 0}
    assert value(families, "canary_duration_seconds_count", model="m") == 2
    assert value(families, "canary_cosine", model="m") == 0.3
    assert value(families, "canary_success", model="m") == 0
    assert value(families, "canary_reference_cosine", model="m") == 0.9993
    assert value(families, "canary_last_success_timestamp_seconds", model="m") == 101

    counts.hear(Tried(Probe("m", 10.0, None, "no answer", "timeout"), 104.0))
    families = Families()
    counts.add_cosines(families, "m", reference)
    assert value(families, "canary_cosine", model="m") is None


def test_a_model_that_cannot_be_tried_is_no_success(tmp_path: Path) -> None:
    """A served model without a reference has canary_success 0 from the first round on, and the reason is counted."""
    settings = Settings(var=tmp_path, store=tmp_path)
    write_models(desired_file(settings), {"m": Served("m", "1.0", "m.mar", "0")})
    source, families = CanarySource(settings), Families()
    source.prober.round()
    source.fetch(families)
    assert value(families, "canary_success", model="m") == 0
    assert source.errors["unreadable"] == 1


def test_a_try_that_hangs_is_never_doubled() -> None:
    """The hung model has one try under way, however many are due; the others go on."""
    release, tried = threading.Event(), list[str]()

    def probe(model: str, _reference: Reference) -> Probe:
        tried.append(model)
        if model == "hung":
            release.wait(10)
        return Probe(model, 0.0)

    targets = {"hung": Reference("a", (1.0,)), "well": Reference("a", (1.0,))}
    heard: list[Tried] = []
    prober, stop = Prober(lambda: targets, probe, 0.02, heard.append), threading.Event()
    runs = threading.Thread(target=prober.run, args=(stop,))
    runs.start()
    deadline = time.monotonic() + 10
    while tried.count("well") < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    runs.join()
    assert tried.count("hung") == 1
    assert "hung" not in {one.probe.model for one in heard}
    release.set()


def test_a_model_that_was_not_right_yet_is_tried_each_second() -> None:
    """`/healthz` is 200 a moment after the model is there, not an interval later; once right, at the interval alone."""
    tried, stop = Counter[str](), threading.Event()

    def probe(model: str, _reference: Reference) -> Probe:
        tried[model] += 1
        loads = model == "loads" and tried[model] < 3
        return Probe(model, 0.0, error="nothing accepts connections there yet" if loads else "")

    def hear(one: Tried) -> None:
        if one.probe.model == "loads" and one.probe.ok:
            stop.set()

    targets = dict.fromkeys(("there", "loads"), Reference("a", (1.0,)))
    runs = threading.Thread(target=Prober(lambda: targets, probe, 60, hear).run, args=(stop,))
    runs.start()
    assert stop.wait(20)
    runs.join()
    assert tried == {"there": 1, "loads": 3}


def test_a_round_that_fails_is_not_the_last() -> None:
    """An error while the models are looked up costs one round; the next one tries them."""
    rounds, heard, stop = list[int](), list[Tried](), threading.Event()

    def targets() -> dict[str, Reference]:
        rounds.append(1)
        if len(rounds) == 1:
            raise RuntimeError("once")
        return {"m": Reference("a", (1.0,))}

    def hear(tried: Tried) -> None:
        heard.append(tried)
        stop.set()

    runs = threading.Thread(target=Prober(targets, lambda model, _: Probe(model, 0.0), 0.01, hear).run, args=(stop,))
    runs.start()
    runs.join(10)
    assert heard
    assert not runs.is_alive()


def test_each_deployment_has_a_secret_of_its_own(tmp_path: Path) -> None:
    """Made once, for its owner alone to read, and the same for everybody who asks."""
    mine, other = Settings(var=tmp_path / "mine"), Settings(var=tmp_path / "other")
    marks: list[object] = []
    threads = [threading.Thread(target=lambda: marks.append(mark_of(mine))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [mark_of(mine)] * 8 == marks
    assert mark_of(mine) != mark_of(other)
    assert (mine.state / "canary-token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in mine.state.iterdir()] == ["canary-token"]
