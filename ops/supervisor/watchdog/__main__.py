"""What supervisord runs as `watchdog`: `python -m ops.supervisor.watchdog var/state/settings.json`."""

import logging
import sys
from pathlib import Path

from ops.supervisor.watchdog.listener import ticks
from ops.supervisor.watchdog.watch import Watch
from ops.torchserve.launcher import read_settings


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m ops.supervisor.watchdog var/state/settings.json", file=sys.stderr)
        return 2
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    protocol, sys.stdout = sys.stdout, sys.stderr  # a stray word on it would end the listener
    try:
        watch = Watch(read_settings(Path(sys.argv[1])))
    except (OSError, ValueError) as error:
        logging.getLogger("embedkit.watchdog").error("%s", error)  # noqa: TRY400 - a sentence, not a traceback
        return 1
    for _ in ticks(sys.stdin, protocol):
        watch.tick()
    return 0


if __name__ == "__main__":
    sys.exit(main())
