"""What supervisord runs as `exporter`: `python -m ops.exporter var/state/settings.json`.

Needs no TorchServe and no GPU: a source that is not there is down, and comes when it comes.
"""

import os

# Set, it would make the exporter's own metrics files of a worker; prometheus_client reads it when imported.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

import logging
import platform
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.process_collector import ProcessCollector

from env.chooser import ChoiceError, installed
from ops.errors import OpsError
from ops.exporter.collector import ExporterCollector
from ops.exporter.health import health_now, with_health
from ops.exporter.server import answering
from ops.exporter.source import Source
from ops.exporter.sources.access_log import AccessLogSource
from ops.exporter.sources.canary import CanarySource, GatewayCanarySource
from ops.exporter.sources.desired import DesiredSource
from ops.exporter.sources.door import DoorSource
from ops.exporter.sources.gateway import GatewaySource
from ops.exporter.sources.host import HostSource
from ops.exporter.sources.nvml import NvmlSource
from ops.exporter.sources.supervisor import SupervisorSource
from ops.exporter.sources.torchserve import ManagementSource, TorchServeMetrics
from ops.exporter.sources.watchdog import WatchdogSource
from ops.exporter.sources.workers import WorkersSource
from ops.settings import Settings
from ops.torchserve.launcher import read_settings

log = logging.getLogger("embedkit.exporter")


def build_labels() -> Mapping[str, str]:
    """What this environment is."""
    try:
        flavour = installed().flavour
    except ChoiceError:
        flavour = "unknown"
    return {"version": version("embedkit"), "python": platform.python_version(), "flavour": flavour}


def serve(settings: Settings, stop: threading.Event) -> None:
    """Answer scrapes on loopback until `stop`.

    Raises:
        OpsError: the port is taken.
    """
    access_log = AccessLogSource(settings)
    canary, gateway_canary = CanarySource(settings), GatewayCanarySource(settings)
    sources: list[Source] = [
        WorkersSource(settings),
        access_log,
        TorchServeMetrics(settings),
        ManagementSource(settings),
        SupervisorSource(settings),
        WatchdogSource(settings),
        canary,
        DesiredSource(settings),
        GatewaySource(settings),
        gateway_canary,
        DoorSource(settings),
        NvmlSource(settings),
        HostSource(settings),
    ]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(ExporterCollector(sources, build_labels()))
    app = with_health(make_wsgi_app(registry), lambda: health_now(canary, settings.canary_interval_s))
    with ExitStack() as until:
        try:
            until.enter_context(answering(settings.exporter_port, app))
        except OSError as error:
            raise OpsError(
                f"port {settings.exporter_port} cannot be had ({error.strerror}): set exporter_port to another"
            ) from error
        for work in (access_log.watch, canary.prober.run, gateway_canary.prober.run):
            threading.Thread(target=work, args=(stop,), daemon=True).start()
        log.warning("serves http://127.0.0.1:%d/metrics", settings.exporter_port)
        stop.wait()
    access_log.close()


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m ops.exporter var/state/settings.json", file=sys.stderr)
        return 2
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        serve(read_settings(Path(sys.argv[1])), stop)
    except (OpsError, OSError, ValueError) as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence, not a traceback
        return 1
    log.warning("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
