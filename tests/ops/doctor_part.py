"""One part of `embedkit doctor` in a process of its own, as JSON: `python -m tests.ops.doctor_part machine`."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping

import orjson

from env import checks
from env.checks import Finding
from env.hardware import detect
from ops import doctor
from ops.desired import desired_file, read_models
from ops.gateway.check import examine_gateway
from ops.observers import find_binary
from ops.preflight import repairer
from ops.settings import Settings, load_settings
from ops.torchserve.launcher import in_force

PARTS: Mapping[str, Callable[[Settings], Iterable[Finding]]] = {
    "jdk": lambda _: [checks.jdk(os.environ, repairer()("cpu"))],
    "supervision": doctor.supervision,
    "machine": lambda settings: doctor.machine(settings, detect(), ()),
    "gateway": lambda settings: [examine_gateway(settings, find_binary("gateway"))],
    "state": doctor.state,
    "archives": lambda settings: doctor.archives(settings, read_models(desired_file(settings))),
    "placement": lambda settings: [doctor.placement(settings, read_models(desired_file(settings)), detect())],
}

if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(list(PARTS[sys.argv[1]](in_force(load_settings())))))
