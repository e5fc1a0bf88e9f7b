"""The advisories that are accepted (advisories.toml), and what is wrong with them or missing among them. Pure."""

import datetime
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("advisories.toml")
STATES = {
    "absent": "what is pinned does not have it",
    "unreached": "it is there, and nothing here comes to it",
    "closed": "a setting or an address closes it",
    "unread": "not traced to the code",
}


@dataclass(frozen=True)
class Advisory:
    """One that is accepted: read against these versions of the package, on that day, and good until another."""

    id: str
    package: str
    versions: tuple[str, ...]
    state: str
    about: str
    reason: str
    read: datetime.date
    review_by: datetime.date


@dataclass(frozen=True)
class Reported:
    """One that a scanner reports for a version that is locked; `names` are its id and aliases."""

    names: frozenset[str]
    package: str
    version: str
    summary: str


def load(file: Path = FILE) -> list[Advisory]:
    """All of them, in the file's order; raises ValueError where the file is not as it should be."""
    found = []
    for entry in tomllib.loads(file.read_text(encoding="utf-8"))["advisory"]:
        try:
            one = Advisory(**{**entry, "versions": tuple(entry["versions"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{file.name}: {entry.get('id', entry)}: {error}") from error
        if one.state not in STATES:
            raise ValueError(f"{file.name}: {one.id}: state {one.state!r} is not one of {', '.join(STATES)}")
        found.append(one)
    return found


def stale(accepted: Iterable[Advisory], locked: Mapping[str, set[str]], today: datetime.date) -> list[str]:
    """What has to be read again, a sentence each; `locked` is package → the versions in the locks."""
    problems = []
    for one in accepted:
        if unknown := sorted(locked.get(one.package, set()) - set(one.versions)):
            problems.append(
                f"{one.id}: {one.package} {unknown[0]} is locked, it was read against others: read it again"
            )
        elif one.package not in locked:
            problems.append(f"{one.id}: {one.package} is in no lock: remove it")
        elif one.review_by < today:
            problems.append(f"{one.id}: it was to be read again by {one.review_by}")
    return problems


def unlisted(reported: Iterable[Reported], accepted: Iterable[Advisory]) -> list[str]:
    """What a scanner reports and nobody has accepted, a sentence each."""
    known = {(one.id, one.package) for one in accepted}
    return [
        f"{one.package} {one.version}: {', '.join(sorted(one.names))}: {one.summary}"
        for one in reported
        if not any((name, one.package) in known for name in one.names)
    ]
