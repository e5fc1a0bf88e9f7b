"""`embedkit key`. To be registered by the command line with `app.add_typer(key, name="key")`."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ops.settings import Settings

key = typer.Typer(help="API keys of the gateway: add, list, revoke.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="what metrics and log call it: letters, digits, - _ .")]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]


def _settings() -> "Settings":
    from ops.settings import load_settings
    from ops.torchserve.launcher import in_force

    return in_force(load_settings())


@key.command("add")
def add(name: Name, json: Json = False) -> None:
    """Make a key and show it, this once; from the first one on, nobody comes in without."""
    from ops.cli import told
    from ops.console import Reporter, err, out, print_json
    from ops.exclusive import exclusive, keys_lock
    from ops.gateway.keys import read_keys, with_new
    from ops.gateway.live import change_keys

    with told():
        settings = _settings()
        with exclusive(keys_lock(settings), Reporter().say):
            keys, made = with_new(read_keys(settings) or {}, name)
            live = change_keys(settings, keys)
        if json:
            print_json({"name": name, "key": made, "in_force": live})
            return
        out.print(made, markup=False)
        err.print(f"embedkit: shown this once; {_when(live)}", markup=False)


@key.command("list")
def show(json: Json = False) -> None:
    """Name the keys."""
    from ops.cli import told
    from ops.console import out, print_json
    from ops.gateway.keys import read_keys

    with told():
        keys = read_keys(_settings())
        if json:
            print_json({"needed": keys is not None, "names": list(keys or {})})
        elif keys is None:
            out.print("no key was made yet, and none is needed")
        else:
            out.print("\n".join(keys) or "no key is left: nobody comes in", markup=False)


@key.command("revoke")
def revoke(name: Name, json: Json = False) -> None:
    """Take a key back; requests with it are refused from then on."""
    from ops.cli import told
    from ops.console import Reporter, out, print_json
    from ops.exclusive import exclusive, keys_lock
    from ops.gateway.keys import read_keys, without
    from ops.gateway.live import change_keys

    with told():
        settings = _settings()
        with exclusive(keys_lock(settings), Reporter().say):
            keys = without(read_keys(settings) or {}, name)
            live = change_keys(settings, keys)
        if json:
            print_json({"revoked": name, "in_force": live})
            return
        left = f"left: {', '.join(keys)}" if keys else "none is left: nobody comes in"
        out.print(f"revoked {name}, {_when(live)}; {left}", markup=False)


def _when(live: bool) -> str:
    return "in force now" if live else "in force when the gateway runs"
