"""What telemetry costs a request, in processor time: `python -m ops.exporter.cost` (`make telemetry-cost`).

Its three parts are measured apart, each as the least of some rounds, since whatever else the machine does only adds:
the worker's stages, TorchServe's line in the access log, the exporter's counting of that line.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from env.jdk import JdkError
from handlers.items import Item
from handlers.telemetry import STAGES, Telemetry, WorkerFacts
from ops.errors import OpsError
from ops.exporter.families import Families
from ops.exporter.sources.access_log import AccessLogSource
from ops.serving import tail
from ops.settings import Settings, load_settings
from ops.torchserve import launcher
from ops.tune.private import private_settings

BATCHES = 20_000
LINES = 200_000
PINGS = 20_000
ROUNDS = 5
SERVER_ROUNDS = 3
_START_S = 60.0
_HOUSEKEEPING = ("C1 ", "C2 ", "GC ", "G1 ", "VM ", "Sweeper")
_PING = b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_FACTS = WorkerFacts(
    pid=os.getpid(),
    model="minilm",
    version="1.0",
    device="cpu",
    device_name="cpu",
    dtype="float32",
    fingerprint="cost",
    loaded_at=0.0,
    dimensions=384,
    max_tokens=256,
    reason="cost",
)


def worker_us(folder: Path, texts: int) -> float:
    """Microseconds a request in batches of so many: all stages, the batch's counts, its answer.

    In a process of its own: prometheus_client reads where its files lie when it is imported.

    Raises:
        OpsError: it failed; its own words are on stderr.
    """
    environ = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-m", "ops.exporter.cost", str(folder), str(texts)]
    done = subprocess.run(command, env=environ, check=False, stdout=subprocess.PIPE)
    if done.returncode:
        raise OpsError("the worker's part could not be measured: the lines above say why")
    return float(done.stdout)


def _worker_us(folder: Path, texts: int) -> float:
    telemetry, items = Telemetry(_FACTS, folder), [Item() for _ in range(texts)]

    def batches() -> None:
        for _ in range(BATCHES):
            telemetry.at_work()
            for stage in STAGES:
                with telemetry.stage(stage, items):
                    pass
            telemetry.batch(texts=texts, tokens=20 * texts, padded=24 * texts, truncated=0)
            telemetry.answered(0.01)
            telemetry.idle()

    return min(_cpu_us(batches) for _ in range(ROUNDS)) / (BATCHES * texts)


def exporter_us(settings: Settings) -> float:
    """Microseconds for a line of the access log."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / "access.log"
    line = b'%d /127.0.0.1:50000 "POST /predictions/minilm HTTP/1.1" 200 12\n'

    def read() -> None:
        source = AccessLogSource(settings)
        source.fetch(Families())
        source.close()

    least = float("inf")
    for _ in range(ROUNDS):
        (settings.state / "access-log-position").unlink(missing_ok=True)
        log.write_bytes(line % (time.time() * 1000) * LINES)
        least = min(least, _cpu_us(read))
    return least / LINES


def server_us(settings: Settings) -> float:
    """Microseconds of the JVM for a line: a round of pings with the log, less one without it.

    Raises:
        OpsError: TorchServe does not come up.
    """
    rounds = [(_ping_us(settings, logged=True), _ping_us(settings, logged=False)) for _ in range(SERVER_ROUNDS)]
    return min(logged for logged, _ in rounds) - min(silent for _, silent in rounds)


def _ping_us(settings: Settings, *, logged: bool) -> float:
    for folder in (settings.state, settings.served, settings.logs, settings.run):
        folder.mkdir(parents=True, exist_ok=True)
    command = launcher.prepare(settings)
    if not logged:
        config = settings.etc / "log4j2.xml"
        config.write_text(config.read_text().replace('name="ACCESS_LOG" level="info"', 'name="ACCESS_LOG" level="off"'))
    log = settings.logs / "torchserve.log"
    with log.open("wb") as said:
        server = subprocess.Popen(
            command,
            env=launcher.clean_environment(os.environ, settings),
            cwd=settings.run,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        with _connected(server, settings.inference_port, log) as connection:
            _ping(connection, PINGS)  # until its hot code is compiled
            before = _answering_us(server.pid)
            _ping(connection, PINGS)
            return (_answering_us(server.pid) - before) / PINGS
    finally:
        server.kill()
        server.wait()


def _answering_us(jvm: int) -> float:
    """Processor time of its threads so far; not of those that compile and collect, which would drown a line."""
    total = 0
    for task in Path(f"/proc/{jvm}/task").iterdir():
        if not (task / "comm").read_text().startswith(_HOUSEKEEPING):
            total += int((task / "schedstat").read_text().split()[0])  # ns on a processor
    return total / 1000


def _connected(server: "subprocess.Popen[bytes]", port: int, log: Path) -> socket.socket:
    started = time.monotonic()
    while time.monotonic() - started < _START_S and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.2)
    raise OpsError(f"TorchServe did not come up on port {port}. The last lines of its log:\n{tail(log)}")


def _ping(connection: socket.socket, times: int) -> None:
    for _ in range(times):
        connection.sendall(_PING)
        answer = b""
        while not answer.rstrip().endswith(b"}"):
            piece = connection.recv(4096)
            if not piece:
                raise OpsError("TorchServe closed the connection while it was measured: run this again")
            answer += piece


def _cpu_us(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1e6


def measure(settings: Settings) -> dict[str, float]:
    """Microseconds a request, part by part; leaves nothing in the folders of `settings`.

    Raises:
        OpsError: TorchServe does not come up.
        JdkError: there is no Java for it.
    """
    with tempfile.TemporaryDirectory(prefix="embedkit-cost-") as name:
        folder = Path(name)
        private = private_settings(settings.model_copy(update={"var": folder}))
        found = {
            "worker, alone in its batch": worker_us(folder, 1),
            "worker, in batches of 32": worker_us(folder, 32),
            "exporter": exporter_us(private),
            "torchserve": server_us(private),
        }
    found["alone in its batch, together"] = (
        found["worker, alone in its batch"] + found["exporter"] + found["torchserve"]
    )
    return {part: round(us, 1) for part, us in found.items()}


def main() -> int:
    try:
        if len(sys.argv) == 3:
            print(_worker_us(Path(sys.argv[1]), int(sys.argv[2])))
        else:
            print(json.dumps(measure(load_settings()), indent=2))
    except (OpsError, JdkError) as error:
        print(f"embedkit: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
