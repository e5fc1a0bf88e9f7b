"""What HAProxy counted for each key, and how many requests of each model it has let in."""

from collections import Counter

from ops.errors import OpsError
from ops.exporter.families import Families
from ops.exporter.source import AbsentError, SourceError
from ops.gateway.control import admissions, key_use
from ops.gateway.program import socket_file
from ops.settings import Settings


class GatewaySource:
    """The gateway, over HAProxy's socket."""

    name = "gateway"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        if not socket_file(self._settings).exists():
            raise AbsentError
        try:
            used, places = key_use(self._settings), admissions(self._settings)
        except OpsError as error:
            raise SourceError("unreachable", str(error)) from error
        families.add("gateway_up", 1)
        for one in places:
            families.add("gateway_admitted_requests", one.admitted, model=one.model, bodies=one.bodies)
            families.add("gateway_admission_limit", one.limit, model=one.model, bodies=one.bodies)
        for key, use in used.items():
            families.add("gateway_key_requests_total", use.requests, key=key)
            families.add("gateway_key_errors_total", use.refused, key=key, kind="client")
            families.add("gateway_key_errors_total", use.failed, key=key, kind="server")
