"""`embedkit bundle` and `embedkit bundle install`. To be registered with `app.add_typer(bundle)`."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]

bundle = typer.Typer(name="bundle", help="Carry the kit to a machine without a network, in one file.")


@bundle.callback(invoke_without_command=True)
def write(
    context: typer.Context,
    *,
    output: Annotated[Path | None, typer.Option("--output", help="the file; embedkit-<torch>.tar if not named")] = None,
    torch: Annotated[str | None, typer.Option("--torch", help="cpu, cuda12 or cuda13; else this machine's")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="take its archive along; repeat it")] = None,
    jdk: Annotated[Path | None, typer.Option("--jdk", help="take this folder of a JDK along")] = None,
    json: Json = False,
) -> None:
    """Write one file with the checkout, the wheels of its lock, chosen archives and a JDK."""
    if context.invoked_subcommand:
        return
    from env.chooser import FLAVOURS, installed, load_pins
    from ops.bundle.write import write as write_bundle
    from ops.cli import told
    from ops.console import Reporter, out, print_json
    from ops.errors import OpsError
    from ops.prepare import spec_of
    from ops.settings import load_settings

    with told():
        settings = load_settings()
        flavour = torch or installed().flavour
        if flavour not in FLAVOURS:
            raise OpsError(f"--torch {flavour} names no lock: use one of {', '.join(FLAVOURS)}")
        specs = [spec_of(settings, name) for name in dict.fromkeys(model or [])]
        file = (output or Path(f"embedkit-{flavour}.tar")).absolute()
        home = jdk.absolute() if jdk else None
        done = write_bundle(file, flavour, specs, store=settings.store, jdk=home, progress=Reporter())
        if json:
            print_json(done)
            return
        out.print(f"{done.path}: {done.files} files, {done.bytes >> 20} MB, in {done.seconds:.0f} s", markup=False)
        out.print(f"  sha256 {done.sha256}")
        name, python = done.path.name, f"python{load_pins()['python']['version']}"
        out.print(f"There: tar xf {name} install.py && {python} install.py {name}", markup=False)


@bundle.command()
def install(
    file: Annotated[Path, typer.Argument(help="what `embedkit bundle` wrote")],
    target: Annotated[Path, typer.Argument(help="a new folder")] = Path("embedkit"),
    json: Json = False,
) -> None:
    """Make a new checkout from a bundle; without embedkit, the bundle's own install.py does the same."""
    from ops.bundle.install import install as install_bundle
    from ops.bundle.install import next_steps
    from ops.cli import told
    from ops.console import Reporter, out, print_json

    with told():
        done = install_bundle(file, target, Reporter().advance)
        if json:
            print_json(done)
            return
        out.print(f"{done.files} files, {done.bytes >> 20} MB in {done.target}. Next:", markup=False)
        out.print(next_steps(done), markup=False)
