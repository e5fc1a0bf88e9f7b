"""What supervisord runs as `torchserve`: prepare a clean start from the desired state, then become the JVM.

    python -m ops.torchserve.launcher var/state/settings.json [--console]

With --console the server's and the workers' logs go to stdout too, where an orchestrator collects them.
Becoming the JVM (exec) means that supervisord watches TorchServe itself: real exit codes, real signals.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from archives.snapshot import hash_file
from archives.store import write_whole
from env.errors import PinError
from env.jdk import JdkError, find_jdk
from handlers.canary import HEADER, TOKEN_VARIABLE
from ops.allocator import MALLOC
from ops.canary import mark_of
from ops.desired import Served, desired_file, read_models
from ops.errors import OpsError
from ops.settings import Settings
from ops.state_files import read_state
from ops.store_owners import claim
from ops.torchserve import config, confine, leftovers, pidfile
from ops.torchserve.scheduling import as_a_batch


def say(text: str) -> None:
    print(f"embedkit launcher: {text}", flush=True)


def read_settings(path: Path) -> Settings:
    """The settings as some version of the kit left them: what this one does not know is passed over.

    Raises:
        OSError, ValueError: the file cannot be used.
    """
    known = {key: value for key, value in read_state(path).items() if key in Settings.model_fields}
    return Settings.model_validate(known)


def in_force(settings: Settings) -> Settings:
    """The settings that the service below the same var/ was last brought up with, flags included; else these.

    Raises:
        OpsError: the file is damaged, or was written for another var/, whose service it would then control.
    """
    file = settings.file
    try:
        found = read_settings(file)
    except FileNotFoundError:
        return settings
    except (OSError, ValueError) as error:
        raise OpsError(f"{file} cannot be used ({error}): `embedkit up` writes it anew") from error
    if found.var != settings.var:
        raise OpsError(f"{file} was written for {found.var}, not for {settings.var}: `embedkit up` writes it anew")
    return found


def servable(settings: Settings, wanted: Mapping[str, Served]) -> dict[str, Served]:
    """The desired models whose archive is there and is the one that was verified; the others are named in the log and
    the rest still serves."""
    found = {}
    for name, one in wanted.items():
        archive = settings.served / one.archive
        if not archive.is_file():
            say(f"{name}: {archive} is missing, not serving it: run `embedkit up {name}`")
        elif hash_file(archive).sha256 != one.sha256:
            say(f"{name}: {archive} is not the file that was verified, not serving it: run `embedkit up {name}`")
        else:
            found[name] = one
    return found


def clean_environment(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The JVM's and thereby the workers' environment.

    A PYTHONPATH would come before the archive on a worker's path, PYTHONWARNINGS=error ends workers; TS_* and
    LOG_LOCATION would override our configuration; the hub must never be asked at run time.
    """
    dropped = (
        "TS_CONFIG_FILE",
        "HF_TOKEN",  # no secret that a worker does not need: it loads nothing from a hub
        "HUGGING_FACE_HUB_TOKEN",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "JDK_JAVA_OPTIONS",
    )
    kept = {
        key: value
        for key, value in environ.items()
        if key not in dropped and not key.startswith(("EMBEDKIT_", "PYTHON"))
    }
    telemetry, mark = str(settings.telemetry), mark_of(settings)
    return (
        MALLOC
        | kept
        | {
            "TEMP": str(settings.temp),
            "TMPDIR": str(settings.temp),  # torch leaves a folder of its compiler there
            "LOG_LOCATION": str(settings.logs),
            "METRICS_LOCATION": str(settings.logs),
            "EMBEDKIT_TELEMETRY_DIR": telemetry,
            "EMBEDKIT_SPEED_DIR": str(settings.speed),
            TOKEN_VARIABLE: mark.headers[HEADER] if mark else "",
            "PROMETHEUS_MULTIPROC_DIR": telemetry,
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONNOUSERSITE": "1",
            "LC_ALL": "C.UTF-8",  # the JVM reads file names by the locale; in C it finds no path with another letter
        }
    )


def prepare(settings: Settings, *, console: bool = False) -> list[str]:
    """End leftovers, empty TEMP and telemetry, render the configuration; returns the JVM's command line.

    Raises:
        OpsError, JdkError, PinError: there is nothing that could be started.
    """
    # What an earlier supervisord left running holds our ports; those of this one descend from it, the gateway's workers
    # by way of their master.
    orphans = [
        one for one in leftovers.programs(settings) if os.getppid() not in {parent.pid for parent in one.parents()}
    ]
    ended = leftovers.end([*leftovers.our_processes(settings), *orphans])
    if ended:
        say(f"ended what an earlier server left: pids {', '.join(map(str, ended))}")
    settings.served.mkdir(parents=True, exist_ok=True)
    try:
        claim(settings)
    except (OSError, OpsError) as error:  # what the last command has claimed is claimed still
        say(f"{settings.store} does not learn which archives are needed here: {error}")
    for folder in (settings.temp, settings.telemetry):
        leftovers.clear_folder(folder)
    settings.temp.chmod(0o700)
    settings.logs.mkdir(parents=True, exist_ok=True)
    models = servable(settings, read_models(desired_file(settings)))
    write_whole(settings.etc / "config.properties", config.config_properties(settings, models.values()).encode())
    write_whole(settings.etc / "log4j2.xml", config.log4j2_xml(settings, console=console).encode())
    jdk = find_jdk(os.environ)
    say(f"Java {jdk.version} from {jdk.origin}; serving {', '.join(models) or 'no model'}")
    site_packages = Path(sysconfig.get_paths()["purelib"])
    return config.java_command(jdk.java, Path(sys.executable), site_packages, settings)


def make_gpu_devices() -> None:
    """Have NVIDIA's helper make the device files that CUDA would have it make later, when it may no more."""
    helper = shutil.which("nvidia-modprobe")
    if helper and Path("/dev/nvidiactl").exists() and not Path("/dev/nvidia-uvm").exists():
        subprocess.run([helper, "-c=0", "-u"], check=False)


def give_up_links() -> None:
    """Take the making of links from this process, where the kernel can.

    Raises:
        OpsError: it can, and something around this process forbids it.
    """
    if not confine.version():
        say("no Landlock in this kernel: whoever reaches the management port can run code as this user")
        return
    try:
        confine.forbid_links()
    except OSError as error:
        raise OpsError(
            f"Landlock is in this kernel and is refused ({error}): have the sandbox around this, a container's seccomp "
            "for one, allow landlock_add_rule and landlock_restrict_self, then `embedkit up`"
        ) from error


def become(command: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Replace this process by the command."""
    os.execve(command[0], command, dict(environ))  # noqa: S606 - no shell is wanted


def main() -> int:
    file, flags = sys.argv[1:2], sys.argv[2:]
    if not file or flags not in ([], ["--console"]):
        print("usage: python -m ops.torchserve.launcher var/state/settings.json [--console]", file=sys.stderr)
        return 2
    try:
        settings = read_settings(Path(file[0]))
        command = prepare(settings, console=bool(flags))
        refused = pidfile.claim(os.getpid())
        if refused:
            say(refused)
        make_gpu_devices()
        give_up_links()
        as_a_batch()
        settings.run.mkdir(parents=True, exist_ok=True)
        os.chdir(settings.run)
        become(command, clean_environment(os.environ, settings))
    except (OpsError, JdkError, PinError) as error:
        say(str(error))
    except (OSError, ValueError) as error:
        say(f"cannot prepare a start: {error}: mend that, then `embedkit up`")
    return 1


if __name__ == "__main__":
    sys.exit(main())
