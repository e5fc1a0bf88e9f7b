"""Whether the gateway lets anybody in, asked at its own door, and whether it may."""

from collections import Counter

from ops.errors import OpsError
from ops.exporter.families import Families
from ops.exporter.source import AbsentError, SourceError
from ops.gateway.check import wrongly_open
from ops.gateway.knock import knock
from ops.gateway.program import socket_file
from ops.settings import Settings
from ops.torchserve.launcher import in_force

TIMEOUT_S = 0.5


class DoorSource:
    """A request without a key. Settings are read each time: a change of the gateway's does not restart the exporter."""

    name = "door"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        try:
            settings = in_force(self._settings)
        except OpsError as error:
            raise SourceError("unreadable", str(error)) from error
        door = knock(settings, TIMEOUT_S)
        if door == "silent":
            if not socket_file(settings).exists():
                raise AbsentError
            raise SourceError("unreachable", f"{settings.gateway_url()} does not answer")
        families.add("gateway_open", door == "open")
        families.add("gateway_wrongly_open", bool(wrongly_open(settings, door)))
