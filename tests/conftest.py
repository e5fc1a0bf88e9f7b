"""What a test needs beside Python packages: `@pytest.mark.needs("nft", "root")`, or `pytestmark` for a whole file.

A name is a program of tests/programs.py or one of `RIGHTS`. Where it is lacking the test is skipped, by name, and one
line at the end tells what was not proven; with CI=true the test fails.
"""

import functools
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Generator

import pytest

from ops.settings import ROOT
from ops.torchserve import confine
from tests.programs import PACKAGES, PATH, find, must_prove

os.environ["PATH"] = PATH
LACKING = "lacking"  # a property of the skipped test, which reaches its report from any process


def _namespaces() -> bool:
    """Whether a network of one's own can be made: as root, or where the kernel lets users have namespaces."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return subprocess.run(["unshare", "--net", *as_root, "true"], capture_output=True, check=False).returncode == 0


# What no package brings.
RIGHTS: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "namespaces": _namespaces,
    "landlock": lambda: bool(confine.version()),
    "a checkout that other users may enter": lambda: all(folder.stat().st_mode & 0o001 for folder in ROOT.parents),
}


@functools.cache
def lack(name: str) -> str:
    """A name, with its Debian package where that is called otherwise, if this machine lacks it; else empty.

    Raises:
        UsageError: nothing is known by that name.
    """
    if name in RIGHTS:
        return "" if RIGHTS[name]() else name
    if name not in PACKAGES:
        raise pytest.UsageError(f"needs({name!r}): add its Debian package to tests/programs.py")
    if find(name):
        return ""
    return name if name == PACKAGES[name] else f"{name} ({PACKAGES[name]})"


def lacking(item: pytest.Item) -> list[str]:
    """What a test needs and this machine lacks."""
    named = {name: None for mark in item.iter_markers("needs") for name in mark.args}
    return [missing for name in named if (missing := lack(name))]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if missing := lacking(item):
            item.user_properties.extend((LACKING, name) for name in missing)
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if must_prove() and (missing := lacking(item)):
        pytest.fail(f"needs {', '.join(missing)}, and with CI=true nothing is skipped for that", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    yield
    skipped = terminalreporter.getreports("skipped")
    counted = Counter(name for report in skipped for key, name in report.user_properties if key == LACKING)
    if counted:
        told = "; ".join(f"{name}: {number} test{'s'[: number > 1]}" for name, number in sorted(counted.items()))
        terminalreporter.write_line(f"not proven here, for want of {told}", yellow=True)
