"""Render supervisord.conf, and put it where `supervisorctl` finds it without flags: <environment>/etc."""

import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from archives.store import write_whole
from env.paths import refusal
from ops.errors import OpsError
from ops.settings import ROOT, Settings, load_settings
from ops.supervisor.programs import Program, checked, section
from ops.supervisor.watchdog.clock import TICK_S

# sun_path of a unix socket holds 108 bytes with its final NUL; TorchServe's workers add /.ts.sock.9000 to TEMP.
SOCKET_PATH_LIMIT = 107


def config_file(settings: Settings) -> Path:
    return settings.etc / "supervisord.conf"


def socket_file(settings: Settings) -> Path:
    return settings.run / "supervisor.sock"


def pid_file(settings: Settings) -> Path:
    return settings.run / "supervisord.pid"


def unfit_paths(settings: Settings) -> Iterator[tuple[str, str]]:
    """(setting, why) of each path that some program could not take; of the checkout and its environment too."""
    for folder in (ROOT, Path(sys.prefix)):
        if why := refusal(folder, checkout=True):
            yield "checkout", why
    for name, path in settings.paths.items():
        if why := refusal(path):
            yield name, why
    for path in (socket_file(settings), settings.temp / ".ts.sock.9000"):
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            yield "var", f"{path} is longer than the {SOCKET_PATH_LIMIT} bytes of a unix socket's path"


def check_paths(settings: Settings) -> None:
    """Refuse a place where the programs could not run, before anything is written there.

    Raises:
        OpsError: names the setting, what is wrong with its path, and the way out.
    """
    for name, why in unfit_paths(settings):
        mended = "move the checkout" if name == "checkout" else f"set EMBEDKIT_{name.upper()} to another path"
        raise OpsError(f"{name}: {why}: {mended}")


def torchserve(settings: Settings) -> Program:
    launcher = (sys.executable, "-m", "ops.torchserve.launcher", str(settings.file))
    return Program(
        "torchserve",
        launcher,
        {
            # a wrong address shows after some 4 s, when the JVM ends: younger it does not count as started
            "startsecs": 8,
            "startretries": 5,
            "stopwaitsecs": settings.stop_timeout_s,
        },
    )


def exporter(settings: Settings) -> Program:
    command = (sys.executable, "-m", "ops.exporter", str(settings.file))
    return Program("exporter", command, {"startsecs": 2, "startretries": 5, "stopwaitsecs": 10})


def watchdog(settings: Settings) -> Program:
    command = (sys.executable, "-m", "ops.supervisor.watchdog", str(settings.file))
    return Program(
        "watchdog", command, {"startsecs": 2, "startretries": 5, "stopwaitsecs": 10}, events=f"TICK_{TICK_S:.0f}"
    )


def supervisord_conf(settings: Settings, observers: Iterable[Program] = ()) -> str:
    """supervisord.conf for these settings.

    Raises:
        OpsError: a path cannot be written there.
    """
    run, logs, socket = checked(settings.run), checked(settings.logs), checked(socket_file(settings))
    head = f"""\
; Rendered by `embedkit up` from ops/supervisor/: change embedkit.toml, not this.
[unix_http_server]
file={socket}
chmod=0600

[supervisord]
logfile={logs}/supervisord.log
logfile_maxbytes={settings.log_mb}MB
logfile_backups={settings.log_files}
pidfile={checked(pid_file(settings))}
childlogdir={logs}
directory={run}
minfds=4096
umask=077

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{socket}

; Says `make up` where supervisorctl alone would speak of a missing socket.
[ctlplugin:embedkit]
supervisor.ctl_factory=ops.supervisor.hint:make_hint
"""
    own = (torchserve(settings), exporter(settings), watchdog(settings))
    return head + "".join(section(program, settings) for program in (*own, *observers))


def install(settings: Settings, observers: Iterable[Program] = ()) -> bool:
    """Write the configuration; returns whether it changed.

    Raises:
        OpsError: see check_paths and programs.checked.
    """
    check_paths(settings)
    wanted = supervisord_conf(settings, observers).encode()
    file = config_file(settings)
    if file.exists() and file.read_bytes() == wanted:
        return False
    write_whole(file, wanted)
    return True


def link_for_supervisorctl(settings: Settings, prefix: Path) -> None:
    """Point <prefix>/etc/supervisord.conf, where <prefix>/bin/supervisorctl looks first, at the configuration.

    Raises:
        OpsError: a file that is not ours stands there.
    """
    link = prefix / "etc" / "supervisord.conf"
    if link.is_symlink():
        if link.readlink() == config_file(settings):
            return
        link.unlink()
    elif link.exists():
        raise OpsError(f"{link} is not this kit's: move it away, then run `embedkit up` again")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(config_file(settings))


def owns_environment(settings: Settings) -> bool:
    """Whether supervisorctl without flags means this deployment: the one in the checkout's own var/.

    A second deployment from the same environment is controlled with `supervisorctl -c <its var>/etc/supervisord.conf`.
    """
    return settings.var == ROOT / "var"


def supervisorctl(settings: Settings) -> str:
    """The command that means this deployment's supervisord, for a shell."""
    flag = "" if owns_environment(settings) else f" -c {shlex.quote(str(config_file(settings)))}"
    return f"supervisorctl{flag}"


def install_in_environment(settings: Settings, observers: Iterable[Program] = ()) -> None:
    """Write the configuration and let supervisorctl find it.

    Raises:
        OpsError: see install and link_for_supervisorctl.
    """
    install(settings, observers)
    if owns_environment(settings):
        link_for_supervisorctl(settings, Path(sys.prefix))


def main() -> int:
    """What set-up runs, so that supervisorctl works in the environment from the start."""
    try:
        install_in_environment(load_settings())
    except (OpsError, OSError) as error:
        print(f"embedkit: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
