"""`embedkit systemd`. To be registered by the command line with `app.command()(systemd)`."""

import os
import pwd
import sys
from pathlib import Path
from typing import Annotated

import typer


def systemd(
    user: Annotated[
        str | None, typer.Option(help="the user that the service runs as; this one where none is named")
    ] = None,
    firewall: Annotated[bool, typer.Option(help="keep the machine's other users from the kit's own ports")] = True,
    close_inference: Annotated[
        bool, typer.Option("--close-inference", help="keep them from the inference port too: they use the proxy")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON document on stdout")] = False,
) -> None:
    """Print a systemd unit for this deployment (docs/systemd.md says where it goes)."""
    from ops.cli import running_settings, told
    from ops.console import print_json
    from ops.settings import ROOT
    from ops.systemd.unit import Place, unit

    with told():
        java = os.environ.get("JAVA_HOME")
        place = Place(Path(sys.prefix), Path(sys.base_prefix), ROOT, Path(java).absolute() if java else None)
        name = user or pwd.getpwuid(os.getuid()).pw_name
        text = unit(running_settings(), name, place, firewall=firewall, inference=close_inference)
        if json:
            print_json({"unit": text})
        else:
            sys.stdout.write(text)
