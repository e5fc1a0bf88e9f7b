"""Decide backend and dtype of a model once, when it is packed: by device, by processor, and by trial.

What is asked for explicitly for torch is taken at its word. Anything else is tried in a process of its own (trial.py):
the fastest candidate whose vectors are float32's still is taken, with the figures. The outcome is kept in the store
under a digest of all it depends on, so that it costs nothing the next time.

store/engines/<name>/<digest>/   decision.json, embedkit-reference.json, openvino/model.xml and .bin where that is taken
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from archives.candidates import BARS, Candidate, candidates, look
from archives.catalogue import ModelSpec
from archives.errors import PackError
from archives.placement import Layout
from archives.progress import Progress
from archives.snapshot import FileEntry, Snapshot, check, hash_file
from archives.store import engines_folder, flush, fsync_folder, staging, write_whole
from archives.worker import COMPUTING, installed_versions, worker_sources
from handlers.card import Backend, Device, Dtype

TRIAL_SECONDS = 3600
DECISION = "decision.json"
_NO_ROOM = "What found no room (memory, disk) is tried again by the next pack: make some, or name `backend` and `dtype`"
_KEPT = ("embedkit-reference.json", "openvino/model.xml", "openvino/model.bin")


@dataclass(frozen=True)
class Resolution:
    """Backend, dtype and device as they are served.

    `decision` says why in a sentence, `tried` has the figures, `root` and `files` what the archive carries for it.
    """

    backend: Backend
    dtype: Dtype
    device: Device
    decision: str
    tried: Sequence[Mapping[str, Any]] = ()
    root: Path | None = None
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    @property
    def carries_weights(self) -> bool:
        """Whether the archive needs the model's own weights to serve."""
        return self.backend == "torch"

    @property
    def settled(self) -> bool:
        """False where a faster candidate failed for what may pass: the next time it is tried again."""
        return not any(one.get("passing") for one in self.tried)


def known(spec: ModelSpec, snapshot: Snapshot, store: Path, layout: Layout) -> Resolution | None:
    """The resolution where nothing has to be tried for it any more, else None."""
    if spec.backend == "torch" and spec.dtype != "auto":
        return Resolution("torch", spec.dtype, spec.device, f"torch {spec.dtype}: models.toml says so")
    found = _read(_folder(spec, snapshot, store, layout))
    return found if found is not None and found.settled else None


def resolve(
    spec: ModelSpec, snapshot: Snapshot, store: Path, layout: Layout, *, progress: Progress, anew: bool = False
) -> Resolution:
    """The resolution, tried where it is not known yet, or `anew`. Use it under the model's lock.

    Where torch cannot use the GPU of `layout`, it is the one for the CPU, and its device says so.

    Raises:
        PackError: what is asked for cannot be had here, or no candidate gives the model's vectors; with all figures.
        DamagedError: a file of the model is not what was fetched.
    """
    found = known(spec, snapshot, store, layout)
    if found is not None and (not anew or found.root is None):
        return found
    wanted = candidates(spec, look(on_gpu=layout.on_gpu))
    names = ", ".join(f"{one.backend} {one.dtype}" for one in wanted)
    progress.say(f"{spec.name}: choosing among {names}: the first whose vectors are float32's (kept for the next time)")
    check(snapshot, snapshot.files, progress)
    with staging(store, spec.name) as folder:
        came_to = _try(spec, snapshot, wanted, folder, layout=layout, timeout_s=TRIAL_SECONDS)
        if "no_gpu" not in came_to:
            for note in came_to["notes"]:
                progress.say(f"{spec.name}: {note}")
            kept = _folder(spec, snapshot, store, layout)
            _keep(spec, folder / "archive", kept, came_to["tried"])
            resolution = _read(kept)
            assert resolution is not None
            progress.say(f"{spec.name}: {resolution.decision}{'' if resolution.settled else f'. {_NO_ROOM}'}")
            return resolution
    progress.say(f"{spec.name}: there is a GPU that cannot be used: {came_to['no_gpu']}; choosing for the CPU")
    on_cpu = layout.on_cpu or replace(layout, on_gpu=False)
    found = resolve(spec, snapshot, store, on_cpu, progress=progress, anew=anew)
    return replace(found, decision=f"no GPU: {came_to['no_gpu']}; {found.decision}")


def _try(
    spec: ModelSpec, snapshot: Snapshot, wanted: Sequence[Candidate], folder: Path, *, layout: Layout, timeout_s: float
) -> dict[str, Any]:
    root = folder / "archive"
    package, sources = worker_sources()
    for name, content in sources.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    snapshot.lay_out(root / "model")
    card = {
        "model": spec.name,
        "version": spec.version,
        "revision": snapshot.revision,
        "kit": "0",
        "device": spec.device if layout.on_gpu else "cpu",
        "threads": layout.threads,
        "max_tokens": spec.max_tokens,
        "max_chars": _longest(spec),
        "token_budget": spec.token_budget,
        "batch_invariant": spec.batch_invariant,
    }
    job: dict[str, Any] = {"folder": str(root), "package": package, "card": card, "bars": BARS}
    job["candidates"] = [[one.backend, one.dtype] for one in wanted]
    (folder / "job.json").write_bytes(orjson.dumps(job))
    script, result = Path(__file__).with_name("trial.py"), folder / "result.json"
    command = [sys.executable, "-I", "-B", str(script), str(folder / "job.json"), str(result)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    # TMPDIR too: torch leaves a folder of its compiler there.
    environment |= dict.fromkeys(("HOME", "HF_HOME", "TMPDIR"), str(folder)) | {"HF_HUB_OFFLINE": "1"}
    try:
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", timeout=timeout_s,
            check=False,
        )  # fmt: skip
        found = orjson.loads(result.read_bytes())
    except subprocess.TimeoutExpired as error:
        raise PackError(
            f"{spec.name}: choosing a backend took over {timeout_s:.0f} s; name one in models.toml"
        ) from error
    except (FileNotFoundError, orjson.JSONDecodeError):
        said = "\n".join((ran.stderr.strip() or ran.stdout.strip()).splitlines()[-8:])
        how = f"signal {-ran.returncode}" if ran.returncode < 0 else f"status {ran.returncode}"
        why = " (out of memory?)" if ran.returncode == -signal.SIGKILL else ""
        raise PackError(
            f"{spec.name}: the process that tries backends ended with {how}{why}. Nothing was kept: pack again, or "
            f"name `backend` and `dtype` in models.toml. Its last words:\n{said}"
        ) from None
    if "error" in found:
        raise PackError(f"{spec.name}: no backend can be tried: {found['error']}")
    return dict(found)


def _keep(spec: ModelSpec, root: Path, kept: Path, tried: Sequence[Mapping[str, Any]]) -> None:
    """Move what the archive will carry to its place in the store, whole; what was kept of other versions goes.

    Raises PackError where the last that was tried does not pass either.
    """
    taken = tried[-1]
    if not taken.get("cosine", -1.0) >= BARS[taken["dtype"]]:
        other = "Set `backend` or `dtype` to something else in models.toml"
        raise PackError(
            f"{spec.name}: nothing that models.toml allows gives the model's vectors here: {_figures(tried)}. "
            f"{_NO_ROOM if any(one.get('passing') for one in tried) else other}"
        )
    wanted = [name for name in _KEPT if taken["backend"] == "openvino" or not name.startswith("openvino/")]
    made = root.parent / "kept"
    files = {}
    for name in wanted:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).replace(made / name)
        entry = hash_file(made / name)
        files[name] = {"sha256": entry.sha256, "bytes": entry.bytes, "crc32": entry.crc32}
    # The device it was tried on: a node that took another by itself would serve other vectors.
    decision = {key: taken[key] for key in ("backend", "dtype", "device")} | {"tried": tried, "files": files}
    write_whole(made / DECISION, orjson.dumps(decision, option=orjson.OPT_INDENT_2))
    shutil.rmtree(kept.parent, ignore_errors=True)
    kept.parent.mkdir(parents=True)
    flush(made)
    made.replace(kept)
    fsync_folder(kept.parent)


def _read(folder: Path) -> Resolution | None:
    with contextlib.suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError):
        about = orjson.loads((folder / DECISION).read_bytes())
        files = {name: FileEntry(**entry) for name, entry in about["files"].items()}
        if all((folder / name).stat().st_size == entry.bytes for name, entry in files.items()):
            return Resolution(
                about["backend"],
                about["dtype"],
                about["device"],
                _figures(about["tried"]),
                about["tried"],
                folder,
                files,
            )
    return None


def _figures(tried: Sequence[Mapping[str, Any]]) -> str:
    """The outcome of each candidate, in the order they were tried."""
    said = []
    for one in tried:
        bar = BARS[one["dtype"]]
        outcome = one.get("reason") or f"cosine {one['cosine']:.6f} with float32, {bar} has to be reached"
        said.append(f"{one['backend']} {one['dtype']}: {outcome}")
    return "; ".join(said)


def _longest(spec: ModelSpec) -> int:
    """The most characters of a text that any request can bring: `verify` sends the reference's texts as requests."""
    return min(spec.max_chars, max(1, (spec.max_body_bytes - 100) // 6))


def _folder(spec: ModelSpec, snapshot: Snapshot, store: Path, layout: Layout) -> Path:
    """Where this resolution is kept: named for all that it depends on."""
    package, _ = worker_sources()
    trial = hashlib.sha256(Path(__file__).with_name("trial.py").read_bytes()).hexdigest()
    machine = look(on_gpu=layout.on_gpu)
    limits = [spec.max_tokens, _longest(spec), spec.token_budget, layout.threads]
    depends = {
        "asked": [spec.backend, spec.dtype, spec.device, spec.batch_invariant, *limits],
        "candidates": [[one.backend, one.dtype] for one in candidates(spec, machine)],
        "bars": dict(BARS),
        "files": {name: entry.sha256 for name, entry in snapshot.files.items()},
        "versions": installed_versions(COMPUTING),
        "code": [package, trial],
        "machine": machine.describe(),
    }
    digest = hashlib.sha256(orjson.dumps(depends, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return engines_folder(store, spec.name) / digest[:16]
