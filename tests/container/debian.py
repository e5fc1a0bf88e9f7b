"""Debian trees made from the archive by mmdebstrap, and this machine's own settings for indexes and mirrors.

What a machine needs to reach an index (pip's settings, certificates, apt's options) is handed to what runs inside and
is no part of the project.
"""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

# Left out of Debian's own slim images too.
SLIM = ("doc", "man", "info", "locale", "lintian")


def make_tree(target: Path, packages: tuple[str, ...] = ()) -> None:
    """A minimal Debian 12 with these packages: a folder, or a tarball where the name ends with .tar."""
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in SLIM]
    include = [f"--include={','.join(packages)}"] if packages else []
    options = [f"--aptopt={line}" for line in apt_options()]
    forget = "--customize-hook=rm -f $1/etc/apt/apt.conf.d/99mmdebstrap $1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", *include, *excluded, *options, forget]
    run([*command, "bookworm", str(target)])


def run(command: list[str], environ: Mapping[str, str] | None = None) -> str:
    """A command's output; what it said where it failed."""
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def apt_options() -> list[str]:
    """How this machine's apt reaches its mirrors: proxies and clocks, as lines of apt.conf."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
    return [line for line in run(["apt-config", "dump"]).splitlines() if line.startswith(wanted)]


def pip_settings() -> dict[str, str]:
    """What pip is told here, as option → value; the environment comes after the files, as it does for pip."""
    listed = run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    pairs = [line.partition("=") for line in listed]
    by_place = sorted(pairs, key=lambda one: one[0].startswith(":env:"))
    return {key.rpartition(".")[2]: value.strip("'") for key, _, value in by_place}


@contextmanager
def settings_elsewhere(certificates: str) -> Iterator[dict[str, str]]:
    """pip's settings as something with another file system can use them: folders of wheels are served over HTTP.

    Args:
        certificates: where this machine's certificates, if pip is told of any, will be found there.
    """
    here = pip_settings()
    settings = {key: value for key, value in here.items() if key in {"index-url", "timeout", "default-timeout"}}
    if "cert" in here:
        settings["cert"] = certificates
    servers = []
    for folder in here.get("find-links", "").split():
        if Path(folder).is_dir():
            handler = partial(Quiet, directory=folder)
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.append(server)
    if servers:
        settings["find-links"] = " ".join(f"http://127.0.0.1:{one.server_port}/" for one in servers)
        settings["trusted-host"] = "127.0.0.1"
    try:
        yield settings
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A folder's files, without a line a request."""

    def log_message(self, *_: object) -> None:
        return


def certificates() -> Path | None:
    """The certificates that pip is told to trust here, if any."""
    named = pip_settings().get("cert")
    return Path(named) if named else None
