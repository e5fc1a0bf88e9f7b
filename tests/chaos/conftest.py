"""A deployment to break, and the table of how it took it."""

import contextlib
import datetime
import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import pytest

from env.hardware import detect
from ops.bench import machine
from ops.settings import ROOT
from tests.chaos import site
from tests.chaos.table import HEADS, Row, cells, markdown, merged, page, read_rows, to_json, unfinished
from tests.chaos.trial import Trial, plain_start
from tests.e2e.stack import Stack, own_stack
from tests.programs import PACKAGES, find

FIGURES = ROOT / "docs" / "chaos.json"
PAGE = ROOT / "docs" / "chaos.md"
ROWS = pytest.StashKey[list[Row]]()
TEST = pytest.StashKey[str]()
NEEDED = ("haproxy", "promtool", "gcc")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[TEST] = item.nodeid


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails before it has made its row takes back what an earlier run has left there."""
    report = yield
    if report.failed and not any(one.test == item.nodeid for one in item.config.stash[ROWS]):
        kept = read_rows(FIGURES)
        rows = unfinished(kept, item.nodeid)
        if rows != kept:
            write(rows)
    return report


def write(rows: list[Row]) -> None:
    FIGURES.write_bytes(to_json(rows))
    PAGE.write_text(page(rows), encoding="utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of this run."""
    fresh = config.stash[ROWS]
    if not fresh:
        return
    terminalreporter.section("chaos")
    terminalreporter.write_line(markdown(HEADS, map(cells, sorted(fresh, key=lambda one: one.order))))


@pytest.fixture(scope="session")
def ran_on() -> str:
    """Machine, versions, commit and day, in a line."""
    seen = machine.look(detect())
    gpus = f", {', '.join(seen.gpus)}" if seen.gpus else ", no GPU"
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    return (
        f"{seen.cores} cores of {seen.cpu}, {seen.memory >> 30} GB{gpus}; {seen.system}; Python {seen.python}, "
        f"torch {seen.versions['torch']}, torchserve {seen.versions['torchserve']}; commit {seen.commit[:12]}"
        f"{'+' if seen.commit.endswith('+') else ''}, {day}; load average {seen.load_before:.1f} before the run"
    )


@pytest.fixture(scope="session")
def show(pytestconfig: pytest.Config, ran_on: str) -> Callable[[Row], Row]:
    """Puts a row into the table of this run, and into nothing that is kept."""

    def place(row: Row) -> Row:
        placed = replace(row, ran_on=ran_on, test=pytestconfig.stash[TEST])
        pytestconfig.stash[ROWS].append(placed)
        return placed

    return place


@pytest.fixture(scope="session")
def record(show: Callable[[Row], Row]) -> Callable[[Row], None]:
    """The same, and keeps it, at once, in docs/."""
    return lambda row: write(merged(read_rows(FIGURES), [show(row)]))


@contextlib.contextmanager
def minilm_stack() -> Iterator[Stack]:
    """A deployment of its own that can serve minilm."""
    with own_stack() as stack:
        shutil.copy(ROOT / "archives" / "models.toml", stack.folder / "models.toml")
        yield stack


@pytest.fixture
def fresh_stack(programs_are_there: None) -> Iterator[Callable[[], Stack]]:
    """Makes deployments in folders of their own, for faults that need settings of their own; ends them all."""
    with contextlib.ExitStack() as made:
        yield lambda: made.enter_context(minilm_stack())


@pytest.fixture(scope="session")
def programs_are_there() -> None:
    """Fails, saying what to install, where this machine lacks a program that the faults need."""
    missing = sorted({PACKAGES[program] for program in NEEDED if find(program) is None})
    if missing:
        pytest.fail(f"not installed: apt-get install -y {' '.join(missing)}")


@pytest.fixture(scope="session")
def shared_stack(programs_are_there: None) -> Iterator[Stack]:
    """The deployment that most faults strike, serving minilm."""
    with minilm_stack() as stack:
        stack.embedkit("up")
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """The same, whole again after whatever the test before has done to it."""
    if not (site.at_full_strength(shared_stack) and site.serves(shared_stack)):
        shared_stack.embedkit("up")
    return shared_stack


@pytest.fixture
def trial(stack: Stack, record: Callable[[Row], None]) -> Trial:
    return Trial(stack, record)


@pytest.fixture(scope="session")
def plain_start_s(shared_stack: Stack, record: Callable[[Row], None]) -> float:
    """Seconds that a start takes under the same load, with nothing broken: what recoveries are compared with."""
    trial, took, full = plain_start(shared_stack, record)
    trial.row(
        0, "none: `supervisorctl start torchserve`", "the plain start time", met=True, serving_s=took, full_s=full
    )
    return took
