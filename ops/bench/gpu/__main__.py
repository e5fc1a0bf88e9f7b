"""`gpu.sh`: collect, install, run. Standard library only: it starts where nothing is installed yet."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from ops.bench.gpu import site as environment
from ops.bench.gpu.collect import collect
from ops.bench.gpu.wheels import LIMIT_MIB, MIB, CarryError, names_of

MINUTES = 9.0


def parser() -> argparse.ArgumentParser:
    """The arguments; what only the measurement knows is passed on to it (run.py)."""
    made = argparse.ArgumentParser(prog="gpu.sh", description="The GPU check; docs/gpu.md says what it measures.")
    commands = made.add_subparsers(dest="command", required=True)
    gather = commands.add_parser("collect", help="gather what is carried, on a machine with a package index")
    gather.add_argument("dir", type=Path, metavar="DIR")
    gather.add_argument("--python", default="3.12", help="the GPU machine's Python, such as 3.12 (default)")
    gather.add_argument("--have", type=Path, metavar="FILE", help="its `pip list --format=freeze`: leaves out numpy …")
    gather.add_argument("--limit", type=float, default=LIMIT_MIB, metavar="MIB", help="of a step (default %(default)s)")
    add = commands.add_parser("install", help="add steps to an environment, on the GPU machine")
    add.add_argument("site", type=Path, metavar="SITE")
    add.add_argument("steps", type=Path, metavar="STEP", nargs="+")
    run = commands.add_parser("run", help="measure; docs/gpu.md has the further flags")
    where = run.add_mutually_exclusive_group(required=True)
    where.add_argument("--wheels", type=Path, nargs="+", metavar="STEP", help="steps, for an environment of this run")
    where.add_argument("--site", type=Path, help="an environment that `install` made")
    run.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cuda without a usable GPU is an error")
    run.add_argument("--minutes", type=float, default=MINUTES, help="all of it ends within (default %(default)s)")
    run.add_argument("--out", type=Path, required=True, metavar="OUT", help="the report's folder")
    return made


def main(words: Sequence[str] | None = None) -> int:
    started = time.monotonic()
    arguments, more = parser().parse_known_args(words)
    if more and arguments.command != "run":
        parser().error(f"unknown: {' '.join(more)}")
    signal.signal(signal.SIGTERM, _stop)
    try:
        if arguments.command == "collect":
            have = names_of(arguments.have.read_text(encoding="utf-8")) if arguments.have else set()
            steps = collect(
                arguments.dir, python=arguments.python, have=have, limit=int(arguments.limit * MIB), say=_say
            )
            _say(f"carry {len(steps)} step{'s' if len(steps) > 1 else ''}; see docs/gpu.md")
            return 0
        if arguments.command == "install":
            environment.install(arguments.site, arguments.steps, _say)
            return 0
        return _run(arguments, more, started)
    except (CarryError, OSError) as error:
        print(f"gpu.sh: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gpu.sh: interrupted", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace, more: Sequence[str], started: float) -> int:
    # First of all, and with this interpreter: a GPU that cannot be used is known before anything is made.
    look = [sys.executable, "-W", "ignore", "-m", "ops.bench.gpu.product", "--device", arguments.device, "--look"]
    if subprocess.run(look, stdout=subprocess.DEVNULL, check=False).returncode:
        return 1
    with tempfile.TemporaryDirectory(prefix="embedkit-gpu-", ignore_cleanup_errors=True) as temporary:
        site = arguments.site
        if site is None:
            site = Path(temporary) / "site"
            environment.install(site, arguments.wheels, _say)
        if missing := environment.still_lacking(site):
            raise CarryError(f"{site} lacks {', '.join(missing)}: install the other steps too")
        left = 60 * arguments.minutes - (time.monotonic() - started)
        command = [site.absolute() / "bin" / "python", "-m", "ops.bench.gpu.run", "--site", site.absolute()]
        command += ["--device", arguments.device, "--seconds", f"{left:.0f}", "--out", arguments.out.absolute()]
        environ = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
        environ |= {"PYTHONNOUSERSITE": "1", "PATH": f"{site.absolute() / 'bin'}:{environ.get('PATH', os.defpath)}"}
        return _pass_on([*map(str, command), *more], environ)


def _pass_on(command: list[str], environ: dict[str, str]) -> int:
    """Run it; what ends this process ends that one first, and it cleans up."""
    process = subprocess.Popen(command, env=environ)
    while True:
        try:
            return process.wait()
        except (KeyboardInterrupt, SystemExit):
            process.terminate()


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


_say: Callable[[str], None] = lambda line: print(f"gpu.sh: {line}", file=sys.stderr, flush=True)  # noqa: E731


if __name__ == "__main__":
    sys.exit(main())
