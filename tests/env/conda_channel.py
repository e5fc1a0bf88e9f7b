"""A conda channel in a folder: packages of the names and versions that conda-forge has, with little or real inside."""

import bz2
import hashlib
import io
import json
import shutil
import stat
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rattler.index import index_fs

SUBDIR = "linux-64"
LEFT_OUT = {"site-packages", "test", "idlelib", "__pycache__", "lib2to3"}


@dataclass(frozen=True)
class Stub:
    """A package: text files by path, and files, folders and links of this machine that it carries besides."""

    name: str
    version: str
    build: str = "0"
    depends: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    carried: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


def _files(stub: Stub, folder: Path) -> None:
    for path, text in stub.texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for path, source in stub.carried.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, folder / path, ignore=lambda _, names: LEFT_OUT & set(names), symlinks=True)
        else:
            shutil.copy(source, folder / path)
    for path, target in stub.links.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(target)


def _paths(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found.append({"_path": name, "path_type": "softlink"})
        elif stat.S_ISREG(path.stat().st_mode):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found.append(
                {"_path": name, "path_type": "hardlink", "sha256": digest, "size_in_bytes": path.stat().st_size}
            )
    return found


def write_package(stub: Stub, channel: Path, work: Path) -> None:
    """The package as a .tar.bz2 in the channel."""
    folder = work / f"{stub.name}-{stub.version}-{stub.build}"
    folder.mkdir(parents=True)
    _files(stub, folder)
    about = {
        "name": stub.name,
        "version": stub.version,
        "build": stub.build,
        "build_number": 0,
        "depends": list(stub.depends),
        "subdir": SUBDIR,
    }
    paths = _paths(folder)
    info = {"index.json": about, "paths.json": {"paths": paths, "paths_version": 1}}
    (channel / SUBDIR).mkdir(parents=True, exist_ok=True)
    target = channel / SUBDIR / f"{folder.name}.tar.bz2"
    with bz2.open(target, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for each in paths:
            tar.add(folder / str(each["_path"]), str(each["_path"]), recursive=False)
        for name, content in info.items():
            entry = tarfile.TarInfo(f"info/{name}")
            text = json.dumps(content).encode()
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    shutil.rmtree(folder)


def forge(*, python: Stub, openjdk: Stub, pip: Stub) -> list[Stub]:
    """The three given, and beside them what must not be taken: other releases, and a pytorch for each machine."""
    return [
        python,
        openjdk,
        pip,
        Stub("make", "4.4.1"),
        *(Stub("python", version) for version in ("3.10.19", "3.12.12", "3.14.0")),
        *(Stub("openjdk", version) for version in ("8.0.472", "17.0.17", "25.0.1")),
        Stub("pytorch", "2.13.0", build="cuda130_0", depends=("__cuda",)),
        Stub("pytorch", "2.13.0", build="cpu_0"),
    ]


def small() -> list[Stub]:
    """Packages with next to nothing inside, enough to be solved, installed and activated."""
    return forge(
        python=Stub("python", "3.11.15", texts={"bin/python3.11": "#!/bin/sh\n"}),
        openjdk=Stub("openjdk", "11.0.30", texts=ACTIVATION),
        pip=Stub("pip", "26.0", depends=("python",)),
    )


# What conda-forge's openjdk does on activation: JAVA_HOME is <prefix>/lib/jvm.
ACTIVATION = {"etc/conda/activate.d/openjdk_activate.sh": 'export JAVA_HOME="$CONDA_PREFIX/lib/jvm"\n'}


def real(jdk: Path) -> list[Stub]:
    """Packages that work: this machine's Python and its library, the pip of this environment, and `jdk`."""
    version = sysconfig.get_python_version()
    here = Path(sysconfig.get_path("purelib"))
    pips = {f"lib/python{version}/site-packages/{each.name}": each for each in here.glob("pip*") if each.is_dir()}
    interpreter = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    return forge(
        python=Stub(
            "python",
            "3.11.15",
            carried={
                f"lib/python{version}": Path(sysconfig.get_path("stdlib")),
                f"bin/python{version}": interpreter,
            },
            links={"bin/python": f"python{version}", "bin/python3": f"python{version}"},
        ),
        openjdk=Stub("openjdk", "11.0.30", texts=ACTIVATION, links={"lib/jvm": str(jdk)}),
        pip=Stub("pip", "26.0", depends=("python",), carried=pips),
    )


async def make_channel(stubs: list[Stub], folder: Path) -> str:
    """Write and index the packages below `folder`; the channel's URL."""
    channel = folder / "channel"
    (channel / "noarch").mkdir(parents=True)
    for stub in stubs:
        write_package(stub, channel, folder / "work")
    await index_fs(channel)
    return channel.as_uri()
