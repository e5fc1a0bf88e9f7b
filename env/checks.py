"""What `embedkit doctor` looks at in the environment: each check answers with one line, and a failure with the one
command that mends it. Checks take what they judge as arguments, so that they can be tried on made-up machines."""

import base64
import csv
import hashlib
import importlib.metadata
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.utils import canonicalize_name

from env.chooser import Choice, load_pins
from env.door import Door
from env.hardware import Hardware
from env.jdk import JdkError, find_jdk
from env.requirements import packages_of

REPAIR = "make repair"
Status = Literal["ok", "note", "fail"]
LITTLE_DISK_BYTES = 2 << 30  # another archive and its logs
MIN_DISK_BYTES = 64 << 20  # configuration, logs and the workers' files
MIN_MEMORY_BYTES = 2 << 30
MIN_OPEN_FILES = 4096


@dataclass(frozen=True)
class Finding:
    """One line of the doctor. `fix` is a command, given with every failure."""

    check: str
    status: Status
    detail: str
    fix: str = ""


def python_version(version: tuple[int, int]) -> Finding:
    wanted = load_pins()["python"]["version"]
    found = ".".join(map(str, version))
    if found != wanted:
        return Finding(
            "python",
            "fail",
            f"Python {found}, the locks are for {wanted}",
            f"make repair PYTHON=python{wanted}",
        )
    return Finding("python", "ok", f"Python {found} at {sys.prefix}")


def entered_by(door: Door, choice: Choice) -> Finding:
    """The door, and the lock that came through it."""
    detail = f"{door.name}: {door.detail}, lock {choice.flavour} ({choice.reason})"
    return Finding("door", "note" if door.name == "none" else "ok", detail)


def locked_packages(choice: Choice) -> dict[str, str]:
    """Package name → version of a choice's lock."""
    return packages_of(choice.lock.read_text(encoding="utf-8"))


def lock_matches(choice: Choice, installed: Mapping[str, str]) -> Finding:
    """The lock against what is installed: missing packages and other versions, by name."""
    locked = locked_packages(choice)
    wrong = []
    for name, version in locked.items():
        found = installed.get(canonicalize_name(name))
        if found is None:
            wrong.append(f"{name} {version} is not installed")
        elif found != version:
            wrong.append(f"{name} is {found}, locked {version}")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        return Finding("lock", "fail", "; ".join(wrong[:5]) + more, REPAIR)
    return Finding("lock", "ok", f"{len(locked)} packages as env/locks/{choice.flavour}.txt says")


def _changed_file(path: Path, recorded: str) -> bool:
    algorithm, _, wanted = recorded.partition("=")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).digest()
    except OSError:
        return True
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != wanted


def recorded_files(names: Iterable[str]) -> Iterator[tuple[str, Path, str]]:
    """(package, file, recorded hash) of every file that the packages' RECORDs hash."""
    for name in names:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # lock_matches names it
        record = distribution.read_text("RECORD") or ""
        for row in csv.reader(record.splitlines()):
            if len(row) >= 2 and row[1]:
                yield name, Path(str(distribution.locate_file(row[0]))), row[1]


def unchanged_since_install(names: Iterable[str]) -> Finding:
    """Every file of these packages against the hash that its wheel recorded."""
    files = list(recorded_files(names))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        changed = list(pool.map(lambda one: _changed_file(one[1], one[2]), files))
    bad = [(name, path) for (name, path, _), is_changed in zip(files, changed, strict=True) if is_changed]
    if bad:
        name, path = bad[0]
        more = f" and {len(bad) - 1} more files" if len(bad) > 1 else ""
        return Finding("packages", "fail", f"{name} was changed after it was installed: {path}{more}", REPAIR)
    return Finding("packages", "ok", f"{len(files)} files as their wheels recorded them")


def jdk(environ: Mapping[str, str]) -> Finding:
    try:
        found = find_jdk(environ)
    except JdkError as error:
        fix = "unset JAVA_HOME" if "JAVA_HOME=" in str(error) else REPAIR
        return Finding("jdk", "fail", str(error), fix)
    detail = f"Java {found.version} from {found.origin}, {found.java}"
    return Finding("jdk", "note", f"{detail}: {found.note}") if found.note else Finding("jdk", "ok", detail)


def probe_torch() -> tuple[str, str | None, str]:
    """(version, CUDA version of the build or None, why CUDA is unusable or ""), asked of a fresh process: a broken
    driver can hang or crash whoever initialises it."""
    code = (
        "import torch\n"
        "print(torch.__version__); print(torch.version.cuda or '')\n"
        "if torch.version.cuda:\n"
        "    try: torch.zeros(1, device='cuda').item()\n"
        "    except Exception as error: print(' '.join(str(error).split())[:300])\n"
    )
    try:
        command = [sys.executable, "-I", "-c", code]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except subprocess.TimeoutExpired:
        return "unknown", None, "importing torch or initialising CUDA took over 120 s"
    except subprocess.CalledProcessError as error:
        return "unknown", None, (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
    lines = [*asked.stdout.splitlines(), "", ""]
    return lines[0], lines[1] or None, lines[2]


def torch_build(hardware: Hardware, build: tuple[str, str | None, str]) -> Finding:
    """torch's build against the driver and the GPUs: a CPU build beside a GPU leaves it idle in silence."""
    version, cuda, trouble = build
    if version == "unknown":
        return Finding("torch", "fail", f"torch cannot be imported: {trouble}", REPAIR)
    if cuda is None and hardware.driver:
        seen = f"NVIDIA driver {hardware.driver}" + (f" and {hardware.gpus[0].name}" if hardware.gpus else "")
        return Finding("torch", "fail", f"torch {version} is a CPU build beside {seen}", REPAIR)
    if cuda is None:
        return Finding("torch", "ok", f"torch {version}, CPU build; no NVIDIA driver here")
    if hardware.driver is None:
        return Finding("torch", "note", f"torch {version} for CUDA {cuda}; no NVIDIA driver here, computing on the CPU")
    if trouble:
        return Finding(
            "torch",
            "fail",
            f"torch {version} for CUDA {cuda} cannot use the GPU (driver {hardware.driver}): {trouble}",
            REPAIR if not os.environ.get("CUDA_VISIBLE_DEVICES") else "unset CUDA_VISIBLE_DEVICES",
        )
    names = ", ".join(gpu.name for gpu in hardware.gpus)
    return Finding("torch", "ok", f"torch {version} for CUDA {cuda}, driver {hardware.driver}: {names}")


def port_is_free(host: str, port: int) -> bool:
    """Whether a listener could be opened there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def host(name: str) -> Finding:
    """Whether the address to listen on is one of this machine's."""
    try:
        addresses = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        family, *_, address = addresses[0]
        with socket.socket(family) as listener:
            listener.bind((address[0], 0))
    except (OSError, UnicodeError) as error:
        detail = f"host {name!r} is no address of this machine: {error}"
        return Finding("host", "fail", detail, "EMBEDKIT_HOST=127.0.0.1 make up")
    return Finding("host", "ok", f"listening on {name}")


def ports(wanted: Mapping[str, int], host: str, *, ours: bool) -> Finding:
    """The ports are free, or, where `ours` says that the kit runs, in use by it."""
    shown = ", ".join(f"{name} {port}" for name, port in wanted.items())
    if ours:
        return Finding("ports", "ok", f"in use by this kit: {shown}")
    taken = [f"{name} {port}" for name, port in wanted.items() if not port_is_free(host, port)]
    if taken:
        name, port = taken[0].split()
        return Finding(
            "ports",
            "fail",
            f"taken by another program: {', '.join(taken)}",
            f"EMBEDKIT_{name.upper()}_PORT={int(port) + 100} make up",
        )
    return Finding("ports", "ok", f"free: {shown}")


def disk(folders: Iterable[Path]) -> Finding:
    """Room and permission below each folder, existing or not."""
    least = None
    for folder in folders:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not os.access(there, os.W_OK):
            return Finding(
                "disk", "fail", f"{there} cannot be written by this user (uid {os.getuid()})", f"ls -ld {there}"
            )
        free = shutil.disk_usage(there).free
        if least is None or free < least[0]:
            least = (free, there)
    assert least is not None
    free, there = least
    if free < LITTLE_DISK_BYTES:
        detail = f"{free >> 20} MB free at {there}"
        return Finding("disk", "fail" if free < MIN_DISK_BYTES else "note", detail, f"du -xh {there} | sort -h | tail")
    return Finding("disk", "ok", f"{free >> 30} GB free at {there}")


def memory(available: int) -> Finding:
    if available < MIN_MEMORY_BYTES:
        return Finding(
            "memory",
            "fail",
            f"{available >> 20} MB available, {MIN_MEMORY_BYTES >> 20} MB needed",
            "ps aux --sort=-rss | head",
        )
    return Finding("memory", "ok", f"{available >> 30} GB available")


def open_files(hard: int | None = None) -> Finding:
    """The hard limit: supervisord raises its own soft limit to what its configuration asks for (minfds)."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if hard is None else hard
    if hard != resource.RLIM_INFINITY and hard < MIN_OPEN_FILES:
        detail = f"{hard} open files allowed, {MIN_OPEN_FILES} needed"
        return Finding("limits", "fail", detail, f"ulimit -Hn {MIN_OPEN_FILES}")
    return Finding("limits", "ok", "open files: " + ("unlimited" if hard == resource.RLIM_INFINITY else str(hard)))


def user(uid: int) -> Finding:
    if uid == 0:
        detail = "this is root: nothing here needs it, and whoever gets into a worker would be root too"
        return Finding("user", "note", detail, "embedkit systemd --user embedkit")
    return Finding("user", "ok", f"uid {uid}")


def secrets(files: Iterable[Path]) -> Finding:
    """Whether files that hold a token or key, where they exist, are for their user alone."""
    there = [file for file in files if file.is_file()]
    for file in there:
        if mode := file.stat().st_mode & 0o077:
            who = "others" if mode & 0o007 else "the group"
            return Finding("secrets", "note", f"{file} holds a secret and {who} may use it", f"chmod 600 {file}")
    return Finding("secrets", "ok", f"for this user alone: {', '.join(map(str, there)) or 'there are none'}")


def confinement(landlock: int) -> Finding:
    """Whether the kernel can keep the management API from running foreign code (docs/security.md)."""
    if not landlock:
        detail = "this kernel has no Landlock: whoever reaches the management port can run code as this user"
        return Finding("confinement", "note", detail, "embedkit systemd")
    return Finding("confinement", "ok", f"Landlock {landlock}: the management port registers no foreign folders")


def trained_with(model: str, trained: Mapping[str, str], installed: Mapping[str, str]) -> Finding:
    """The versions a model was trained with (config_sentence_transformers.json) against the environment's."""
    check = f"model {model}"
    names = {
        "sentence_transformers": "sentence-transformers",
        "transformers": "transformers",
        "pytorch": "torch",
    }
    different = [
        f"{label} {installed[label]} here, {trained[key]} at training"
        for key, label in names.items()
        if key in trained and label in installed and trained[key] != installed[label]
    ]
    if not trained:
        return Finding(check, "note", "its folder does not say which versions it was trained with")
    if different:
        return Finding(check, "note", "; ".join(different))
    return Finding(check, "ok", "the versions it was trained with")
