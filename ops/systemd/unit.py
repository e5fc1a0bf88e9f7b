"""Render the systemd unit that runs this deployment's supervisord. Pure text; embedkit.service is the template."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from ops.settings import Settings
from ops.supervisor.config import config_file
from ops.supervisor.programs import checked

TEMPLATE = Path(__file__).with_name("embedkit.service")
# What supervisord takes beyond TorchServe's own time to stop.
_STOP_ALLOWANCE_S = 30
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))


@dataclass(frozen=True)
class Place:
    """Where the kit is installed: its environment, the Python below that, and the Java that was chosen by JAVA_HOME."""

    prefix: Path
    base_prefix: Path
    root: Path
    java_home: Path | None

    def needed(self, settings: Settings) -> list[Path]:
        """The folders without which nothing starts."""
        java = [self.java_home] if self.java_home else []
        return [settings.var, settings.store, self.root, self.prefix, self.base_prefix, *java]


def unit(settings: Settings, user: str, place: Place, *, firewall: bool = True, inference: bool = False) -> str:
    """The unit. `firewall`: keep the machine's other users from the ports that are for the kit alone; `inference`:
    from the inference port too, so that they come through a proxy with keys.

    Raises:
        OpsError: a path cannot be written there.
    """
    python = place.prefix / "bin" / "python"
    needed = place.needed(settings)
    in_a_home = any(path.is_relative_to(home) for path in needed for home in _HOMES)
    rules = _firewall(settings, user, inference=inference) if firewall else ""
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        user=user,
        var=_quoted(settings.var),
        run=checked(settings.run),
        mounts=" ".join(dict.fromkeys(map(_quoted, needed))),
        environment=f'Environment="JAVA_HOME={checked(place.java_home)}"' if place.java_home else "",
        prepare=_command(python, "-m", "ops.systemd.before", settings.file),
        after=_command(python, "-m", "ops.systemd.after", settings.file),
        supervisord=_command(python, place.prefix / "bin" / "supervisord", "-n", "-c", config_file(settings)),
        firewall=rules,
        stop_s=settings.stop_timeout_s + _STOP_ALLOWANCE_S,
        home="read-only" if in_a_home else "yes",
    )


def _quoted(word: object) -> str:
    return f'"{checked(word)}"'


def _command(*words: object) -> str:
    return " ".join(map(_quoted, words))


def _firewall(settings: Settings, user: str, *, inference: bool) -> str:
    """Lines that keep other users of this machine from the kit's own ports while it runs; they need nftables."""
    names = ("management", "metrics", "grpc_inference", "grpc_management", *(["inference"] if inference else []))
    ports = ", ".join(str(settings.ports[name]) for name in names)
    table = f"inet embedkit_{settings.management_port}"
    rule = f'oifname "lo" tcp dport {{ {ports} }} meta skuid != {{ root, {user} }} counter reject with tcp reset'
    chain = f"chain output {{ type filter hook output priority filter; policy accept; {rule}; }}"
    return (
        f"ExecStartPre=+nft 'table {table}; delete table {table}; table {table} {{ {chain}; }}'\n"
        f"ExecStopPost=+-nft 'delete table {table}'"
    )


def commands(text: str, key: str) -> Iterable[str]:
    """The command lines of a unit under a key, such as ExecStart, without systemd's prefixes."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == key:
            yield value.lstrip("+-!:@")
