"""Read a hashed lock. Standard library only: the set-up script needs it before there is an environment."""

import importlib.metadata
import re

_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+).*\n(?:    .*\n?)*", re.MULTILINE)


def packages_of(lock: str) -> dict[str, str]:
    """Package name → pinned version, from a lock's text."""
    return {entry["name"]: entry["version"] for entry in _ENTRY.finditer(lock)}


def subset(lock: str, names: set[str]) -> str:
    """The lock's entries for these packages, hashes included."""
    return "".join(entry.group(0) for entry in _ENTRY.finditer(lock) if entry["name"] in names)


def normal(name: str) -> str:
    """A distribution's name as names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions() -> dict[str, str]:
    """Distribution name (normalised) → version of everything installed here; of two, the one that would be imported.
    One whose metadata a full disk or a killed pip cut off is not installed."""
    versions: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        if one.metadata["Name"] and one.version:
            versions.setdefault(normal(one.metadata["Name"]), one.version)
    return versions
