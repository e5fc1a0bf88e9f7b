"""Programs that tests run, and the Debian packages that bring them: Prometheus, Alertmanager, HAProxy, a terminal for
`embedkit top`, what judges the systemd unit and its firewall, nix, a compiler for a false clock.

`python -m tests.programs`, which `make test` runs first, installs the missing ones as root on Debian and elsewhere
says which they are; tests/conftest.py skips their tests then. Nothing that comes with a package is left running.
Programs that are named are looked for instead of `USUAL`.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

# An ordinary user's PATH lacks the folders where Debian puts HAProxy, nft and ip.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "buildah": "buildah",
    "curl": "curl",
    "gcc": "gcc",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "javac": "default-jdk-headless",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "nix": "nix-bin",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "ps": "procps",
    "readelf": "binutils",
    "shellcheck": "shellcheck",
    "systemd-analyze": "systemd",
    "tmux": "tmux",
}
# All but what `make image-test` and `make fresh` alone need.
USUAL = tuple(program for program in PACKAGES if program not in {"buildah", "mmdebstrap"})
# Debian asks this script before it starts a service on installation: 101 means no.
POLICY = Path("/usr/sbin/policy-rc.d")


def find(program: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(program, path=PATH)


def path(program: str) -> str:
    """Where a program is that a test runs.

    Raises:
        AssertionError: it is not here, and the test is not marked with it.
    """
    found = find(program)
    assert found, f"{program} is not here, and no @pytest.mark.needs({program!r}) says so"
    return found


def must_prove() -> bool:
    """Whether a run that leaves something out counts as failed: CI=true."""
    return os.environ.get("CI") == "true"


@contextlib.contextmanager
def no_services() -> Iterator[None]:
    """Installed services are not started; a policy that is there is respected."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def install(packages: list[str]) -> str:
    """Install Debian packages; what apt-get said where it failed."""
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    quiet = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    with no_services():
        for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run([*quiet, *words], env=environ, capture_output=True, text=True, check=False)
            if done.returncode:
                return (done.stderr or done.stdout).strip()
    return ""


def main(programs: Sequence[str]) -> int:
    """Install or name what is missing; 1 where something stays missing and CI=true."""
    lacking = [program for program in programs if find(program) is None]
    if not lacking:
        return 0
    packages = sorted({PACKAGES[program] for program in lacking})
    if os.geteuid() == 0 and find("apt-get"):
        print(f"tests: installing what they run: apt-get install {' '.join(packages)}", flush=True)
        fault = install(packages)
        if not fault:
            return 0
        print(f"tests: apt-get: {fault}", file=sys.stderr)
    print(
        f"tests: not here: {', '.join(lacking)}. What needs them is skipped and named; "
        f"as root on Debian: apt-get install {' '.join(packages)}",
        file=sys.stderr,
    )
    return int(must_prove())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or USUAL))
