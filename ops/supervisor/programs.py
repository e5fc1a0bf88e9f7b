"""A program of supervisord: its name, its command, and what is special about it; rendered the same way for all."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ops.errors import OpsError
from ops.settings import Settings

LONGEST_STOP_S = 20  # of any program but TorchServe, which has `stop_timeout_s`


@dataclass(frozen=True)
class Program:
    """One `[program:…]`. `options` are supervisord's own keys; every program starts and restarts by itself.

    With `events` it is an `[eventlistener:…]` of these: its stdout is for supervisord's protocol, its log is stderr.
    """

    name: str
    command: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    events: str = ""


def checked(value: object) -> str:
    """A value for supervisord's configuration, where % starts an expansion, ; and # a comment: as it is, or refused.

    Raises:
        OpsError: supervisord has no way to write this value.
    """
    text = str(value)
    if any(char in text for char in ';#"%\\\n'):
        raise OpsError(f"{text!r}: supervisord cannot take a path with ; # % \\ or quotes: move the program to another")
    return text


def section(program: Program, settings: Settings) -> str:
    """The program's section.

    Raises:
        OpsError: a part of its command cannot be written there.
    """
    lines = {
        "command": " ".join(f'"{checked(word)}"' for word in program.command),
        "directory": checked(settings.run),
        "autostart": "true",
        "autorestart": "true",
        "stopsignal": "TERM",
        **program.options,
        "killasgroup": "true",
    }
    if program.events:
        lines |= {"events": program.events, "stdout_logfile": "NONE"}
    else:
        lines |= {"redirect_stderr": "true"}
    stream = "stderr" if program.events else "stdout"
    lines |= {
        f"{stream}_logfile": f"{checked(settings.logs)}/{program.name}.log",
        f"{stream}_logfile_maxbytes": f"{settings.log_mb}MB",
        f"{stream}_logfile_backups": settings.log_files,
    }
    kind = "eventlistener" if program.events else "program"
    return f"\n[{kind}:{program.name}]\n" + "".join(f"{key}={value}\n" for key, value in lines.items())
