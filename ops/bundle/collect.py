"""Download every file of one lock into a folder, for `embedkit bundle`: a process of its own, whose output is pip's.

python -m ops.bundle.collect cpu|cuda12|cuda13 FOLDER
"""

import sys
from pathlib import Path

from env.chooser import Choice
from env.installer import Pip, SetupError, take_lock


def main() -> int:
    flavour, folder = sys.argv[1:]
    try:
        take_lock(Pip(Path(sys.executable), ("download", "--dest", folder)), Choice(flavour, "the bundle is for it"))
    except SetupError as error:
        print(f"embedkit: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
