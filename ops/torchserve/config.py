"""Render TorchServe's config.properties and log4j2.xml. Pure text, each line with its reason (docs/torchserve.md)."""

from collections.abc import Iterable
from pathlib import Path
from string import Template
from xml.sax.saxutils import escape

from ops.desired import Served
from ops.settings import Settings

# Above the kit's own limits (32 MiB a body), so that its errors are met and never TorchServe's bare 413.
MAX_REQUEST_BYTES = 40 << 20
MAX_RESPONSE_BYTES = 128 << 20
LOG4J2_TEMPLATE = Path(__file__).parent / "log4j2.xml"


def config_properties(settings: Settings, models: Iterable[Served]) -> str:
    """config.properties for serving these models."""
    lines = {
        "inference_address": f"http://{settings.host}:{settings.inference_port}",
        "management_address": f"http://127.0.0.1:{settings.management_port}",
        "metrics_address": f"http://127.0.0.1:{settings.metrics_port}",
        # The kit offers no gRPC, but TorchServe always opens it: at least on loopback, on ports that can be set.
        "grpc_inference_address": "127.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": settings.grpc_inference_port,
        "grpc_management_port": settings.grpc_management_port,
        "model_store": settings.served,
        "load_models": ",".join(f"{one.model}={one.archive}" for one in models),
        # The alternative, `log`, leaves :8082/metrics empty.
        "metrics_mode": "prometheus",
        # A Python process a minute that fails as a whole and for ever once a worker's pid is gone.
        "disable_system_metrics": "true",
        "install_py_dep_per_model": "false",
        # Archives come from the store alone: a URL that matches this does not exist.
        "allowed_urls": "embedkit://none",
        # `embedkit up MODEL` registers a model with a running server; management listens on loopback alone.
        "enable_model_api": "true",
        # Tokens change at every start and live 60 minutes, so a restart would lock every client out; they do not
        # cover :8082 and turn a failure into a 400. Binding to loopback takes their place; the gateway owns keys.
        "disable_token_authorization": "true",
        # Bodies reach the handler as bytes: it knows charsets, limits and how to answer bad JSON.
        "decode_input_request": "false",
        "max_request_size": MAX_REQUEST_BYTES,
        "max_response_size": MAX_RESPONSE_BYTES,
        "enable_envvars_config": "false",
    }
    return "".join(f"{key}={_escaped(value)}\n" for key, value in lines.items())


def _escaped(value: object) -> str:
    """A value of a .properties file, which Java reads as Latin-1 with backslash escapes."""
    text = str(value).replace("\\", "\\\\")
    return "".join(char if char.isascii() else _units(char) for char in text)


def _units(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def log4j2_xml(settings: Settings, *, console: bool = False) -> str:
    """log4j2.xml: no line a request but in the access log, rotation by size; with `console` on stdout too."""
    return Template(LOG4J2_TEMPLATE.read_text(encoding="utf-8")).substitute(
        logs=escape(str(settings.logs), {'"': "&quot;"}),
        size=settings.log_mb,
        files=settings.log_files,
        console="all" if console else "off",
    )


def java_command(java: Path, python: Path, site_packages: Path, settings: Settings) -> list[str]:
    """The JVM's command line, as TorchServe's own launcher builds it, so that `torchserve --stop` knows it.

    Run directly, because that launcher throws the JVM's exit status away and dies alone of a SIGTERM.
    """
    return [
        str(java),
        f"-Dmodel_server_home={site_packages}",
        f"-Dlog4j.configurationFile={(settings.etc / 'log4j2.xml').as_uri()}",
        f"-Djava.io.tmpdir={settings.temp}",
        f"-Xmx{settings.jvm_heap_mb}m",  # else a quarter of the machine
        "-XX:+ExitOnOutOfMemoryError",  # else an exhausted heap is swallowed and the server half dead
        "-XX:-UsePerfData",  # no hsperfdata folder left in /tmp
        f"-XX:ErrorFile={settings.logs / 'jvm-crash.log'}",
        "-cp",
        f".:{site_packages / 'ts' / 'frontend'}/*",
        "org.pytorch.serve.ModelServer",
        "--python",
        str(python),
        "-f",
        str(settings.etc / "config.properties"),
        "-ncs",  # what is served is the desired state's to say, not a snapshot's
    ]
