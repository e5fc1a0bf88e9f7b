"""Every line once: over rotations as log4j2 makes them, over restarts, and with a line half written."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.exporter.tail import RESUME_S, Tail


class Log:
    """access.log as log4j2 rotates it: the highest number is the youngest, two are kept."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "access.log"
        self.written: list[bytes] = []

    def write(self, count: int = 1) -> None:
        with self.path.open("ab") as file:
            for _ in range(count):
                self.written.append(b"line %d" % len(self.written))
                file.write(self.written[-1] + b"\n")

    def rotate(self) -> None:
        first, second = (self.path.with_name(f"access.{number}.log") for number in (1, 2))
        if second.exists():
            second.rename(first)
        if self.path.exists():
            self.path.rename(second if first.exists() else first)
        self.path.touch()


@contextlib.contextmanager
def tailing(log: Log) -> Iterator[Tail]:
    """One life of a reader."""
    made = Tail(log.path, log.path.with_name("position"))
    try:
        yield made
    finally:
        made.close()


@given(st.lists(st.sampled_from(["write", "rotate", "read", "restart"]), max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_line_once(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """In any order of writing, reading, rotating (at most once between two looks) and restarting the reader."""
    log = Log(tmp_path_factory.mktemp("log"))
    read: list[bytes] = []
    may_rotate = True
    with contextlib.ExitStack() as lives:
        at = lives.enter_context(tailing(log))
        for step in [*steps, "read"]:
            if step == "write":
                log.write(3)
            elif step == "rotate" and may_rotate:
                log.rotate()
                may_rotate = False
            elif step in {"read", "restart"}:
                read += at.read()
                may_rotate = True
            if step == "restart":
                at.close()
                at = lives.enter_context(tailing(log))
        assert (read, at.lost) == (log.written, 0)


def test_two_rotations_between_two_looks(tmp_path: Path) -> None:
    """All kept files are read in order."""
    log = Log(tmp_path)
    log.write(2)
    with tailing(log) as at:
        read = at.read()
        for _ in range(2):
            log.write(2)
            log.rotate()
        log.write(2)
        assert read + at.read() == log.written
        assert at.lost == 0


def test_lines_rotated_away_unread_are_told(tmp_path: Path) -> None:
    """Four rotations between two looks: what is left is read, and the loss is counted."""
    log = Log(tmp_path)
    log.write()
    with tailing(log) as at:
        at.read()
        for _ in range(4):
            log.write()
            log.rotate()
        log.write()
        assert at.read() == [log.written[1], *log.written[-3:]]  # the file that was open, and those that are kept
        assert at.lost == 1


def test_a_line_half_written_waits_for_its_end(tmp_path: Path) -> None:
    """Its first half is no line, and a reader that restarts in between sees it whole."""
    log = Log(tmp_path)
    log.path.write_bytes(b"whole\nha")
    with tailing(log) as at:
        assert at.read() == [b"whole"]
    with log.path.open("ab") as file:
        file.write(b"lf\n")
    with tailing(log) as again:
        assert again.read() == [b"half"]


def test_a_long_absence_starts_at_the_end(tmp_path: Path) -> None:
    """What came while nobody looked for longer than that would look like a burst."""
    log = Log(tmp_path)
    log.write()
    with tailing(log) as at:
        at.read()
    log.write(5)
    then = time.time() - RESUME_S - 1
    os.utime(tmp_path / "position", (then, then))
    with tailing(log) as again:
        assert again.read() == []
        log.write()
        assert again.read() == log.written[-1:]


def test_before_there_is_a_log(tmp_path: Path) -> None:
    """The exporter may be there first; a damaged position counts from the end."""
    log = Log(tmp_path)
    with tailing(log) as at:
        assert at.read() == []
        log.write(2)
        assert at.read() == log.written
    (tmp_path / "position").write_bytes(b"rubbish")
    with tailing(log) as again:
        assert again.read() == []
