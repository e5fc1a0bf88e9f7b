"""One typed object for everything that can be set: embedkit.toml < EMBEDKIT_* in the environment < flags."""

import difflib
import functools
import ipaddress
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from env.door import MARK
from ops.errors import OpsError

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "EMBEDKIT_"
# Not settings: what the launcher tells the workers (handlers/telemetry.py, speed.py, canary.py); env/door.py's mark.
INTERNAL = frozenset({"EMBEDKIT_TELEMETRY_DIR", "EMBEDKIT_SPEED_DIR", "EMBEDKIT_CANARY_TOKEN", MARK})

# What Kubernetes sets in every pod beside a Service named embedkit, or embedkit-gateway and the like.
_INJECTED = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
_INJECTED_URL = re.compile(r"(tcp|udp|sctp)://\S+")

# Whom a changed setting concerns: the others go on as they are.
OBSERVERS_OWN = frozenset(
    {
        *("prometheus_port", "alertmanager_port", "grafana_port", "prometheus", "alertmanager", "grafana"),
        *("scrape_interval_s", "metrics_days", "metrics_gb", "alert_webhook"),
    }
)
EXPORTERS_OWN = frozenset({"exporter_port", "canary_interval_s"})


Port = Annotated[int, Field(ge=1, le=65535)]
# Programs that are not part of the environment: `auto` runs one where it is installed and its port is free.
OBSERVERS = ("prometheus", "alertmanager", "grafana")
OPTIONAL = ("gateway", *OBSERVERS)
Run = Literal["auto", "on", "off"]
RUN = "`auto`: where it is installed and its port is free; `on`: or `embedkit up` refuses; `off`: never"
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _is_address(value: str) -> str:
    try:
        if not _HOST_NAME.fullmatch(value):
            ipaddress.IPv6Address(value.replace("%", "!"))  # nor one with a zone, which no URL here has
    except ValueError:
        raise ValueError("is no address and no name of a host: write it without port, brackets and zone") from None
    return value


def _is_ipv4(value: str) -> str:
    if ":" in value:
        raise ValueError(
            "TorchServe cannot listen on IPv6: take an IPv4 address; `gateway_host`, where clients come in, may be IPv6"
        )
    return value


Address = Annotated[str, AfterValidator(_is_address)]
LocalPath = Annotated[Path, AfterValidator(lambda path: (ROOT / path).resolve())]


_PROGRAMS = {
    **dict.fromkeys(("inference", "management", "metrics"), "torchserve"),
    "gateway_metrics": "gateway",
}


def program_of(listener: str) -> str:
    """The program of supervisord that a listener belongs to."""
    return _PROGRAMS.get(listener, listener)


def bracketed(host: str) -> str:
    """An address as URLs and configurations have it before a port."""
    return f"[{host}]" if ":" in host else host


def met_at(host: str) -> str:
    """Where this machine meets what listens on an address, bracketed."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return host
    loopback = "127.0.0.1" if address.version == 4 else "::1"
    return bracketed(loopback if address.is_unspecified else host)


class SettingsError(OpsError):
    """A setting is unknown or its value is not allowed."""


class Settings(BaseModel):
    """Every setting of the kit. Paths may be relative to the checkout."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    host: Annotated[Address, AfterValidator(_is_ipv4)] = Field(
        "127.0.0.1", description="IPv4 address that inference listens on; what is public is `gateway_host`"
    )
    inference_port: Port = Field(8080, description="TorchServe's inference API")
    management_port: Port = Field(8081, description="TorchServe's management API, always on loopback")
    metrics_port: Port = Field(8082, description="TorchServe's own metrics, always on loopback")
    grpc_inference_port: Port = Field(7070, description="opened by TorchServe on loopback, not used by the kit")
    grpc_management_port: Port = Field(7071, description="opened by TorchServe on loopback, not used by the kit")
    exporter_port: Port = Field(9108, description="the kit's metrics for Prometheus, always on loopback")
    prometheus_port: Port = Field(9090, description="Prometheus, on loopback")
    alertmanager_port: Port = Field(9093, description="Alertmanager, on loopback")
    grafana_port: Port = Field(3000, description="Grafana, on loopback")
    gateway_port: Port = Field(8000, description="the gateway, on `gateway_host`")
    gateway_metrics_port: Port = Field(8404, description="HAProxy's own metrics, always on loopback")
    default_model: str = Field("minilm", description="the model that `embedkit up` without a name serves")
    models_file: LocalPath = Field(Path("archives/models.toml"), description="what can be served")
    store: LocalPath = Field(Path("archives/store"), description="snapshots and archives")
    var: LocalPath = Field(Path("var"), description="everything written at run time")
    jvm_heap_mb: int = Field(1024, ge=128, description="TorchServe's heap limit (-Xmx), in MB")
    log_mb: int = Field(20, ge=1, description="size at which a log file is rotated, in MB")
    log_files: int = Field(5, ge=1, description="rotated files kept of each log")
    canary_interval_s: float = Field(
        15, ge=1, le=120, description="seconds between two canaries, known texts by which the exporter tries each model"
    )
    stop_timeout_s: int = Field(30, ge=1, description="seconds a stopping TorchServe has before it is killed")

    gateway: Run = Field("auto", description=f"run HAProxy as the gateway. {RUN}")
    gateway_host: Address = Field("127.0.0.1", description="address that the gateway listens on")
    gateway_open: bool = Field(False, description="let `gateway_host` be public without keys or without TLS")
    gateway_keys: LocalPath | None = Field(
        None, description="file of API keys, written by `embedkit key`; left out: `var/state/gateway-keys`"
    )
    gateway_tls: LocalPath | None = Field(
        None, description="certificate chain and key, PEM, in one file: the gateway then speaks TLS alone"
    )
    gateway_body_mb: int = Field(
        8, ge=1, description="largest body, in MiB; TorchServe takes 40, and a few such at once slow down everybody"
    )
    gateway_connections: int = Field(2000, ge=10, description="connections at once")
    gateway_header_s: int = Field(10, ge=1, description="seconds for a client's headers")
    gateway_body_s: int = Field(30, ge=1, description="seconds for its body's first MiB")
    gateway_large: int = Field(
        64, ge=1, description="requests at once with a body over 64 KiB, and others with an answer over 256 KiB"
    )
    gateway_key_rate: int = Field(
        0, ge=0, le=100_000, description="requests a second of one key, and 10 s' worth at once; 0: no limit"
    )
    gateway_wait_s: int = Field(30, ge=1, description="seconds that requests wait for a TorchServe that restarts")
    gateway_route_kb: int = Field(
        1024, ge=16, le=4096, description="largest body, in KiB, in which `/v1/embeddings` looks for `model`"
    )
    prometheus: Run = Field("auto", description="run Prometheus; values as for `gateway`")
    alertmanager: Run = Field("auto", description="run Alertmanager; values as for `gateway`")
    grafana: Run = Field("auto", description="run Grafana; values as for `gateway`")
    scrape_interval_s: int = Field(15, ge=1, le=60, description="seconds between two looks of Prometheus")
    metrics_days: int = Field(30, ge=1, description="days that Prometheus keeps metrics")
    metrics_gb: int = Field(10, ge=1, description="GB of metrics that Prometheus keeps at most; the oldest go first")
    alert_webhook: str = Field("", description="URL that Alertmanager posts alerts to; empty: its page shows them")

    @field_validator("alert_webhook")
    @classmethod
    def is_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("is no URL: it starts with http:// or https://, or is empty")
        return value

    @model_validator(mode="after")
    def ports_differ(self) -> Self:
        ports = self.ports
        for name, port in ports.items():
            twins = [other for other in ports if other != name and ports[other] == port]
            if twins:
                raise ValueError(f"{name}_port and {twins[0]}_port are both {port}: give each its own")
        return self

    @property
    def ports(self) -> dict[str, int]:
        """Listener name → port, of everything that is not `off`."""
        listeners = {name.removesuffix("_port"): name for name in type(self).model_fields if name.endswith("_port")}
        return {
            listener: getattr(self, name)
            for listener, name in listeners.items()
            if getattr(self, program_of(listener), "on") != "off"
        }

    @property
    def needed_ports(self) -> dict[str, int]:
        """The ports without which `up` cannot succeed: not those of programs that run only where they can."""
        return {name: port for name, port in self.ports.items() if getattr(self, program_of(name), "on") == "on"}

    def ports_of(self, program: str) -> dict[str, int]:
        """Listener name → port of one program of supervisord."""
        return {listener: port for listener, port in self.ports.items() if program_of(listener) == program}

    @property
    def paths(self) -> dict[str, Path]:
        """Setting → path, of every setting that is one."""
        return {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), Path)}

    # Where things lie below var/.
    @property
    def etc(self) -> Path:
        return self.var / "etc"

    @property
    def run(self) -> Path:
        return self.var / "run"

    @property
    def logs(self) -> Path:
        return self.var / "log"

    @property
    def state(self) -> Path:
        return self.var / "state"

    @property
    def file(self) -> Path:
        """Where `up` leaves the settings it ran with, so that a restart never depends on anybody's environment."""
        return self.state / "settings.json"

    @property
    def temp(self) -> Path:
        """TorchServe's private TEMP: unpacked archives and the workers' sockets."""
        return self.var / "embedkit-tmp"  # emptied at each start: a name that nobody else has

    @property
    def served(self) -> Path:
        """The verified archives that TorchServe loads; `pack` never writes here."""
        return self.store / "served"

    @property
    def telemetry(self) -> Path:
        return self.var / "embedkit-telemetry"

    @property
    def speed(self) -> Path:
        """What workers have measured of this machine: kept, so that a request's limit is the same after each start."""
        return self.state / "speed"

    def inference_url(self, path: str = "") -> str:
        return f"http://{met_at(self.host)}:{self.inference_port}{path}"

    def gateway_url(self, path: str = "") -> str:
        return f"{'https' if self.gateway_tls else 'http'}://{met_at(self.gateway_host)}:{self.gateway_port}{path}"

    def local_url(self, listener: str) -> str:
        """Where a listener that is always on loopback can be met: `exporter`, `prometheus`, …"""
        return f"http://127.0.0.1:{getattr(self, f'{listener}_port')}"

    def metrics_url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.metrics_port}{path}"

    def exporter_url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.exporter_port}{path}"

    def management_url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.management_port}{path}"


GATEWAYS_OWN = frozenset(name for name in Settings.model_fields if name.startswith("gateway"))


def _explain(error: ValidationError, sources: Mapping[str, str]) -> str:
    lines = []
    for one in error.errors():
        key = str(one["loc"][0]) if one["loc"] else ""
        if one["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, Settings.model_fields, n=1)
            allowed = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(Settings.model_fields))}"
            lines.append(f"unknown setting {sources.get(key, key)}: {allowed}")
        elif key:
            lines.append(f"{sources.get(key, key)}={one['input']!r}: {one['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(one["msg"].removeprefix("Value error, "))
    return "\n".join(lines)


def is_injected(name: str, value: str) -> bool:
    """Whether Kubernetes set this variable for a Service; EMBEDKIT_GATEWAY_PORT, a setting too, shows by its value."""
    by_value = name.startswith(PREFIX) and name.endswith("_PORT") and _INJECTED_URL.fullmatch(value) is not None
    return by_value or _INJECTED.fullmatch(name) is not None


@functools.cache
def _warn_injected(names: tuple[str, ...]) -> None:
    """Say it once, on stderr."""
    print(
        f"embedkit: ignored {', '.join(names)}: Kubernetes sets them for a Service whose name begins with embedkit; "
        "enableServiceLinks: false in the pod's spec leaves them out",
        file=sys.stderr,
    )


def load_settings(
    flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Settings:
    """Read the settings from all three places; what Kubernetes sets for a Service is none of them, which is said.

    Raises:
        SettingsError: an unknown key, a bad value, or an unreadable file; names key, value and what is allowed.
    """
    environ = os.environ if environ is None else environ
    file = ROOT / "embedkit.toml" if file is None else file
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if file.exists():
        try:
            values |= tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise SettingsError(f"{file}: {error}") from error
        sources |= {key: f"{file.name}: {key}" for key in values}
    injected = tuple(sorted(name for name, value in environ.items() if is_injected(name, value)))
    if injected:
        _warn_injected(injected)
    for name, value in environ.items():
        if name.startswith(PREFIX) and name not in INTERNAL and name not in injected:
            values[name.removeprefix(PREFIX).lower()] = value
            sources[name.removeprefix(PREFIX).lower()] = name
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = value
            sources[key] = f"--{key.replace('_', '-')}"
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error, sources)) from error
