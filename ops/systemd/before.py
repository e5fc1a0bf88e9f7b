"""What the unit runs before supervisord: nothing of an earlier one may be in its way.

    python -m ops.systemd.before var/state/settings.json

systemd itself ends what a killed supervisord leaves. This is for all else: a service that was brought up by hand.
"""

import sys
from pathlib import Path

from ops.errors import OpsError
from ops.supervisor.control import Supervisor
from ops.supervisor.process import end_unsupervised
from ops.torchserve.launcher import read_settings


def clear(file: Path) -> None:
    """End what an earlier supervisord left behind, or one that does not answer.

    Raises:
        OpsError: a supervisord runs, or there never was an `embedkit up`.
    """
    try:
        settings = read_settings(file)
    except FileNotFoundError as error:
        raise OpsError(f"{file} is missing: run `embedkit up` once as this user, then `embedkit down`") from error
    if Supervisor(settings).running():
        raise OpsError(f"it runs already, without systemd (pid {Supervisor(settings).pid()}): `embedkit down` first")
    end_unsupervised(settings, lambda text: print(f"embedkit: {text}"))


def main() -> int:
    try:
        clear(Path(sys.argv[1]))
    except (OpsError, ValueError, OSError) as error:
        print(f"embedkit: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
