"""What `embedkit doctor` looks at in the machine: address, disks, memory, limits, user, kernel."""

import os
import resource
import shlex
import shutil
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from env.checks import Finding, as_root

LITTLE_DISK_BYTES = 2 << 30  # another archive and its logs
MIN_DISK_BYTES = 64 << 20  # configuration, logs and the workers' files
LITTLE_MEMORY_BYTES = 2 << 30
MIN_OPEN_FILES = 4096


def host(name: str, setting: str = "host") -> Finding:
    """Whether the address to listen on is one of this machine's; `setting` names it. A name means IPv4."""
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        address = socket.getaddrinfo(name, 0, family, socket.SOCK_STREAM)[0][-1]
        with socket.socket(family) as listener:
            listener.bind(address)
    except (OSError, UnicodeError) as error:
        detail = f"{name!r} is no address of this machine: {error}"
        return Finding(setting, "fail", detail, f"EMBEDKIT_{setting.upper()}=127.0.0.1 make up")
    return Finding(setting, "ok", f"listening on {name}")


def _nearest(folder: Path) -> Path:
    """The folder, or what is there of the way to it."""
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _mount(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.is_mount())


def _let_write(name: str, folder: Path, there: Path) -> str:
    """The command after which this user can write into the folder that the setting names, or has another one; `there`
    is what there is of it."""
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return as_root(f"mount -o remount,rw {shlex.quote(str(_mount(there)))}")
    if there.stat().st_uid == os.getuid():
        return f"chmod u+rwx {shlex.quote(str(there))}"
    owner, quoted = f"{os.getuid()}:{os.getgid()}", shlex.quote(str(folder))
    if folder == there and there.stat().st_uid:  # another user's, who may be serving from it
        own = shlex.quote(str(Path.home() / "embedkit" / name))
        return f"export EMBEDKIT_{name.upper()}={own} && make up"
    if folder == there:
        return as_root(f"chown -R {owner} {quoted}")
    return as_root(f"install -d -m 700 -o {os.getuid()} -g {os.getgid()} {quoted}")


def _roomy() -> Path | None:
    """Where this user can write and most is free, as long as that is enough."""
    places = [Path.home(), Path("/var/tmp"), *(Path(one.mountpoint) for one in psutil.disk_partitions())]  # noqa: S108
    usable = [one for one in places if one.is_dir() and os.access(one, os.W_OK)]
    best = max(usable, key=lambda one: shutil.disk_usage(one).free, default=None)
    return best if best is not None and shutil.disk_usage(best).free >= LITTLE_DISK_BYTES else None


def disk(folders: Mapping[str, Path]) -> Finding:
    """Room and permission below each folder, existing or not; keys are the settings that name them."""
    free = {}
    for name, folder in folders.items():
        there = _nearest(folder)
        if not os.access(there, os.W_OK):
            detail = f"{there} cannot be written by this user (uid {os.getuid()})"
            return Finding("disk", "fail", detail, _let_write(name, folder, there))
        free[name] = shutil.disk_usage(there).free
    least = min(free, key=lambda name: free[name])
    there = _nearest(folders[least])
    if free[least] >= LITTLE_DISK_BYTES:
        return Finding("disk", "ok", f"{free[least] >> 30} GB free at {there}")
    detail, look = f"{free[least] >> 20} MB free at {there}", f"du -xh {shlex.quote(str(there))} | sort -h | tail"
    if free[least] >= MIN_DISK_BYTES:
        return Finding("disk", "note", detail, look)
    roomy = _roomy()
    if roomy is None:
        return Finding("disk", "fail", f"{detail}, and no disk here has more: remove what is largest", look)
    full = [name for name in free if free[name] < MIN_DISK_BYTES]
    moved = " ".join(f"EMBEDKIT_{name.upper()}={shlex.quote(str(roomy / 'embedkit' / name))}" for name in full)
    state = folders["var"] / "state"  # keys, and what is served
    carried = f'mkdir -p "$EMBEDKIT_VAR" && cp -a {shlex.quote(str(state))} "$EMBEDKIT_VAR" && '
    move = f"make down && export {moved} && {carried if 'var' in full and state.is_dir() else ''}make up"
    return Finding("disk", "fail", detail, move)


def memory(available: int, held: int) -> Finding:
    """What may be taken, `held` by this kit's own processes included; `placement` judges whether the models fit."""
    detail = f"{available / (1 << 30):.1f} GB available" + (f", {held >> 20} MB of it held by this kit" if held else "")
    if available < LITTLE_MEMORY_BYTES:
        return Finding("memory", "note", f"only {detail}", "ps aux --sort=-rss | head")
    return Finding("memory", "ok", detail)


def open_files(hard: int | None = None) -> Finding:
    """The hard limit: supervisord raises its own soft limit to what its configuration asks for (minfds)."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if hard is None else hard
    if hard != resource.RLIM_INFINITY and hard < MIN_OPEN_FILES:
        detail = f"{hard} open files allowed, {MIN_OPEN_FILES} needed"
        return Finding(
            "limits", "fail", detail, as_root(f"prlimit --pid $$ --nofile={MIN_OPEN_FILES}:{MIN_OPEN_FILES}")
        )
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
            detail = f"{file} holds a secret and {who} may use it"
            return Finding("secrets", "note", detail, f"chmod 600 {shlex.quote(str(file))}")
    return Finding("secrets", "ok", f"for this user alone: {', '.join(map(str, there)) or 'there are none'}")


def confinement(landlock: int) -> Finding:
    """Whether the kernel can keep the management API from running foreign code (docs/security.md)."""
    if not landlock:
        detail = "this kernel has no Landlock: whoever reaches the management port can run code as this user"
        return Finding("confinement", "note", detail, "embedkit systemd")
    return Finding("confinement", "ok", f"Landlock {landlock}: the management port registers no foreign folders")
