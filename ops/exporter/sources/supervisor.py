"""What supervisord says of its programs."""

from collections import Counter
from collections.abc import Iterable

from ops.errors import OpsError
from ops.exporter.families import Families
from ops.exporter.source import SourceError
from ops.settings import Settings
from ops.supervisor.control import Program, Supervisor

STATES = ("STOPPED", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED", "FATAL", "UNKNOWN")


def map_programs(programs: Iterable[Program], families: Families) -> None:
    for program in programs:
        for state in STATES:
            families.add("supervisor_process_state", program.state == state, name=program.name, state=state)
        families.add("supervisor_process_start_time_seconds", program.started_at, name=program.name)
        families.add("supervisor_process_exit_status", program.exit_status, name=program.name)


class SupervisorSource:
    """supervisord, over its socket."""

    name = "supervisor"

    def __init__(self, settings: Settings) -> None:
        self._supervisor = Supervisor(settings)
        self.errors: Counter[str] = Counter()

    def fetch(self, families: Families) -> None:
        try:
            programs = self._supervisor.programs()
        except OpsError as error:
            raise SourceError("unreachable", str(error)) from error
        families.add("supervisor_up", 1)
        map_programs(programs, families)
