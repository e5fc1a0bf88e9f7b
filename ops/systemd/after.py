"""What the unit runs beside supervisord at its start: `systemctl start` ends once every model and program answers.

    python -m ops.systemd.after var/state/settings.json

What does not come is said in the journal and ends nothing: the unit passes a failure over, so that the rest serves on.
"""

import sys
import time
from pathlib import Path

from archives.errors import ArchivesError
from ops.answering import wait_until_answering
from ops.deploy.command import START_ALLOWANCE_S
from ops.errors import OpsError
from ops.prepare import known_references, spec_of
from ops.serving import Expected, wait_until_serving
from ops.supervisor.control import Supervisor
from ops.torchserve.launcher import read_settings

SUPERVISORD_S = 30.0  # until it has made its socket


def wait(file: Path) -> None:
    """Return when everything answers that was up last.

    Raises:
        OpsError, ArchivesError: what does not, with the last lines of its log.
    """
    settings = read_settings(file)
    deadline = time.monotonic() + SUPERVISORD_S
    while not Supervisor(settings).running():
        if time.monotonic() > deadline:
            raise OpsError(f"supervisord does not answer: see {settings.logs / 'supervisord.log'}")
        time.sleep(0.1)
    _, references = known_references(settings)
    expected = {
        name: Expected(reference, spec_of(settings, name).startup_timeout_s + START_ALLOWANCE_S)
        for name, reference in references.items()
    }
    wait_until_serving(settings, expected, print)
    wait_until_answering(settings, references, print)


def main() -> int:
    try:
        wait(Path(sys.argv[1]))
    except (OpsError, ArchivesError, ValueError, OSError) as error:
        print(f"embedkit: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
