"""Compare the locks with the advisories that are published: `make audit`.

    python -m env.audit [--service-url URL]

uv asks OSV, which has PyPI's advisories and GitHub's, about every package of uv.lock, from which the locks are made.
Exit status 1: one is not in env/advisories.toml, or an entry there is stale. 2: the service could not be asked.
"""

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Iterable

from env.advisories import FILE, Reported, load, stale, unlisted
from env.chooser import FLAVOURS, lock_path
from env.requirements import packages_of


class AuditError(RuntimeError):
    """The service that knows the advisories could not be asked."""


def locked() -> dict[str, set[str]]:
    """Package → the versions in the locks; a build such as +cpu is left out, as advisories know releases."""
    found: dict[str, set[str]] = {}
    for flavour in (*FLAVOURS, "dev"):
        for name, version in packages_of(lock_path(flavour).read_text(encoding="utf-8")).items():
            found.setdefault(name, set()).add(version.partition("+")[0])
    return found


def scan(options: Iterable[str] = ()) -> list[Reported]:
    """What is published against the locked versions.

    Raises:
        AuditError: the service cannot be reached or answered something else; uv's own words are in the message.
    """
    command = [sys.executable, "-m", "uv", "--no-config", "audit", "--frozen", "--output-format", "json"]
    command += ["--preview-features", "audit-command,json-output", *options]
    done = subprocess.run(command, cwd=FILE.parents[1], capture_output=True, text=True, check=False)
    try:
        entries = json.loads(done.stdout)["vulnerabilities"]
        return [
            Reported(
                frozenset({one["id"], *one["aliases"]}),
                one["dependency"]["name"],
                one["dependency"]["version"],
                one["summary"] or "no summary",
            )
            for one in entries
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise AuditError(f"advisories could not be had: {said[-1].strip() if said else error}") from error


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make audit")
    parser.add_argument("--service-url", help="another OSV service")
    given = parser.parse_args(arguments)
    try:
        accepted = load()
    except ValueError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 1
    problems = stale(accepted, locked(), datetime.datetime.now(datetime.UTC).date())
    try:
        reported = scan(["--service-url", given.service_url] if given.service_url else [])
    except AuditError as error:
        print("\n".join([*problems, f"audit: {error}"]), file=sys.stderr)
        return 2
    problems += [f"not in env/{FILE.name}: {one}" for one in unlisted(reported, accepted)]
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 1
    print(f"audit: {len(reported)} advisories against the locks, all accepted in env/{FILE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
