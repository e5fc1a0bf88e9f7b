"""The measurement itself, in the environment that was carried: stages in their order, each with its time limit.

    SITE/bin/python -m ops.bench.gpu.run --site SITE --device cuda --seconds 500 --out OUT

What a stage found is written to OUT/result.json when it ends, so that a later one that fails or runs out of time costs
its own figures alone. It exits 0 only where every stage ended, nothing failed and every compared vector was right.
"""

import argparse
import datetime
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from archives.errors import ArchivesError
from archives.progress import Progress
from archives.store import write_whole
from env.hardware import Hardware, detect
from env.jdk import JdkError, packaged_java
from ops.bench import machine
from ops.bench.gpu import judge, page, stages
from ops.bench.gpu.clock import Clock, OutOfTimeError
from ops.bench.gpu.plan import LIMITS, MODEL, PROFILES, RESERVE_S, Plan, options
from ops.bench.gpu.stages import Here, Measured
from ops.console import Reporter, out, to_plain
from ops.down import bring_down
from ops.errors import OpsError
from ops.settings import Settings
from ops.torchserve.leftovers import our_processes


class Check:
    """One run. `failed`: stage → why."""

    def __init__(self, plan: Plan, site: Path, folder: Path, progress: Progress) -> None:
        self._plan, self._site, self._folder, self._progress = plan, site, folder, progress
        self._clock = Clock(plan.seconds, reserve_s=RESERVE_S)
        self._started_at = datetime.datetime.now(datetime.UTC)
        self.measured = Measured()
        self.failed: dict[str, str] = {}
        self.took: dict[str, float] = {}

    def run(self, work: Path, hardware: Hardware) -> bool:
        """Everything; returns whether all of it went well. `work` is an empty folder with a short name."""
        ran_on = machine.look(hardware)
        here = Here(self._plan, stages.settings_for(work), hardware, work, self._progress)
        try:
            self._stages(here)
        except KeyboardInterrupt:
            self.failed["the rest"] = "interrupted"
            raise
        finally:
            self._end(here.settings)
            result = self._write(ran_on)
        out.print(result["headline"], markup=False)
        out.print(f"report {self._folder / 'report.html'}", markup=False)
        return not self.failed and not self.measured.errors and not self.measured.wrong

    def _stages(self, here: Here) -> None:
        found = self.measured
        self._stage("matrix product", partial(stages.product, here, found))
        if not self._stage("model", partial(stages.make_model, here)):
            return
        if not self._stage("service", partial(stages.serve, here, found)):
            return
        self._stage("parity", partial(stages.parity, here, found))
        for profile in PROFILES:
            self._stage(f"closed loop, {profile}", partial(stages.closed, here, found, profile))
        self._stage("bound", partial(stages.bound, here, found))
        self._stage("infinity", partial(stages.infinity, here, found, self._site / "infinity" / "bin"))

    def _stage(self, name: str, do: Callable[[], None]) -> bool:
        """Run one stage within its limit; returns whether it ended well."""
        self._progress.say(f"{name}: at most {max(0, min(LIMITS[name], self._clock.left)):.0f} s")
        started = time.monotonic()
        try:
            with self._clock.limit(LIMITS[name]):
                do()
        except (OutOfTimeError, OpsError, ArchivesError, JdkError, OSError) as error:
            self.failed[name] = str(error)
            self._progress.say(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this stage alone
            traceback.print_exc()
            self.failed[name] = f"{type(error).__name__}: {error}"
        self.took[name] = time.monotonic() - started
        self._write_json(self._result())
        return name not in self.failed

    def _end(self, settings: Settings) -> None:
        """Nothing is left running, whatever happened before."""
        try:
            bring_down(settings, self._progress.say)
        except OpsError as error:
            self.failed["end"] = str(error)
        if left := our_processes(settings):
            self.failed["end"] = f"still running: pids {', '.join(str(one.pid) for one in left)}"

    def _result(self, ran_on: machine.Machine | None = None) -> dict[str, Any]:
        found, plan = self.measured, self._plan
        return {
            "headline": judge.headline(plan, found, self.failed),
            "errors": found.errors,
            "failed": self.failed,
            "stages_took_s": self.took,
            "started_at": self._started_at.isoformat(timespec="seconds"),
            "seconds": self._clock.elapsed,
            "machine": ran_on,
            "plan": plan,
            "bars": judge.bars(plan, found),
            **found.as_json(),
        }

    def _write(self, ran_on: machine.Machine) -> dict[str, Any]:
        plain = self._write_json(self._result(ran_on))
        write_whole(self._folder / "report.html", page.render(plain).encode())
        return plain

    def _write_json(self, result: dict[str, Any]) -> dict[str, Any]:
        content = orjson.dumps(result, default=to_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
        write_whole(self._folder / "result.json", content)
        plain: dict[str, Any] = orjson.loads(content)
        return plain


def _connections(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.split(","))
    if min(found) < 1:
        raise ValueError(text)
    return found


def parser() -> argparse.ArgumentParser:
    """The arguments: what gpu.sh passes on, and what may be tried."""
    made = argparse.ArgumentParser(prog="gpu.sh run", description=(__doc__ or "").partition("\n")[0])
    made.add_argument("--site", type=Path, required=True)
    made.add_argument("--device", choices=("cuda", "cpu"), required=True)
    made.add_argument("--seconds", type=float, required=True)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument(
        "--small", action="store_true", help="a model of two small layers, short phases: tries the script"
    )
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--connections", type=_connections, help="such as 64,128,256,512")
    made.add_argument("--workers", type=int, help="left out: two a GPU, one a core without")
    made.add_argument(
        "--threads", type=int, help="of a worker; on a GPU they tokenize (left out: its share of the cores)"
    )
    made.add_argument(
        "--batch-size", type=int, default=Plan.batch_size, help="requests computed as one batch (default %(default)s)"
    )
    made.add_argument("--max-batch-delay-ms", type=int, default=Plan.max_batch_delay_ms, help="default %(default)s")
    made.add_argument(
        "--token-budget", type=int, default=Plan.token_budget, help="padded tokens a pass (default %(default)s)"
    )
    made.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    return made


def plan_of(arguments: argparse.Namespace) -> Plan:
    """What the arguments ask for."""
    return Plan(
        device=arguments.device,
        small=arguments.small,
        seconds=arguments.seconds,
        product_size=8192 if arguments.device == "cuda" else 2048,
        options=options(small=arguments.small, seed=arguments.seed, connections=arguments.connections),
        peer_s=2.0 if arguments.small else 5.0,
        peer_connections=64 if arguments.small else 256,
        workers=arguments.workers or "auto",
        threads=arguments.threads or "auto",
        batch_size=arguments.batch_size,
        max_batch_delay_ms=arguments.max_batch_delay_ms,
        token_budget=arguments.token_budget,
        dtype=arguments.dtype,
    )


def unseen(hardware: Hardware, mask: str | None) -> str | None:
    """Why NVML, by which the kit packs for a GPU, shows none although torch has one; None where it does. `mask` is
    CUDA_VISIBLE_DEVICES.
    """
    if hardware.gpus:
        return None
    if hardware.driver is None:
        return (
            "NVML, by which the kit knows GPUs, does not work here: see what nvidia-smi says (the driver brings "
            "libnvidia-ml.so.1; a container gets it with NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
        )
    if mask is not None:
        return (
            f"NVML sees no GPU that CUDA_VISIBLE_DEVICES={mask!r} leaves: unset it, or name one by the index or UUID "
            "that `nvidia-smi -L` shows"
        )
    return f"NVML sees no GPU, though driver {hardware.driver} is there: see what `nvidia-smi -L` lists"


def main(words: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(words)
    signal.signal(signal.SIGTERM, _stop)
    plan, progress = plan_of(arguments), Reporter()
    if plan.device == "cuda" and (missing := unseen(detect(), os.environ.get("CUDA_VISIBLE_DEVICES"))):
        print(f"gpu.sh: {missing}", file=sys.stderr)
        return 1
    for name in [name for name in os.environ if name.startswith("EMBEDKIT_")]:
        del os.environ[name]
    java = packaged_java()
    if java is not None:  # the carried one, whatever else the machine has
        os.environ["JAVA_HOME"] = str(java.parent.parent)
    if plan.device == "cuda" and len(detect().gpus) > 1:
        # Utilisation is that of one card.
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        os.environ["CUDA_VISIBLE_DEVICES"] = first
        progress.say(f"several GPUs: only the first is used (CUDA_VISIBLE_DEVICES={first})")
    with tempfile.TemporaryDirectory(prefix="ekgpu-", ignore_cleanup_errors=True) as work:
        progress.say(f"{MODEL}, {plan.shape}, on {plan.device}; {plan.seconds:.0f} s for everything")
        try:
            return 0 if Check(plan, arguments.site, arguments.out, progress).run(Path(work), detect()) else 1
        except KeyboardInterrupt:
            print("gpu.sh: interrupted; what was measured until then is in the report", file=sys.stderr)
            return 130


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
