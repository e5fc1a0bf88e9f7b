"""Let torch-model-archiver make an archive's skeleton: everything but the model folder.

It stages in the temp folder under the model's name after deleting what is there, so it gets a temp folder of its own.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from archives.errors import PackError
from archives.plan import CONFIG_NAME, ENTRY_NAME

TORCHSERVE_MANIFEST = "MAR-INF/MANIFEST.json"
_CREATED = "01/01/1980 00:00:00"


def make_skeleton(name: str, version: str, small: Mapping[str, bytes], folder: Path) -> dict[str, bytes]:
    """Run the archiver over the small files, in `folder` (empty, private).

    Returns: archive name → content, TorchServe's manifest among them with its time of making normalised.

    Raises:
        PackError: the archiver failed, or dropped or changed a file.
    """
    given, extra, out, temporary = (folder / part for part in ("given", "given/extra", "out", "tmp"))
    for each in (extra, out, temporary):
        each.mkdir(parents=True)
    for path, content in small.items():
        target = (given if path in {ENTRY_NAME, CONFIG_NAME} else extra) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    # Relative paths: the archiver splits --extra-files at commas and takes [, * and ? for patterns.
    command = [sys.executable, "-I", "-m", "model_archiver.model_packaging"]
    command += ["--model-name", name, "--version", version, "--handler", ENTRY_NAME, "--config-file", CONFIG_NAME]
    command += ["--extra-files", "extra", "--export-path", str(out), "--archive-format", "no-archive"]
    ran = subprocess.run(
        command, cwd=given, env=os.environ | {"TMPDIR": str(temporary)}, capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        said = (ran.stderr.strip() or ran.stdout.strip() or "nothing").splitlines()[-1]
        raise PackError(f"{name}: torch-model-archiver failed (exit {ran.returncode}): {said}")
    made = {path.relative_to(out / name).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for path, content in small.items():
        if made.get(path) != content:
            raise PackError(f"{name}: torch-model-archiver lost or changed {path}: is the pinned 0.12.0 installed?")
    manifest = orjson.loads(made[TORCHSERVE_MANIFEST])
    manifest["createdOn"] = _CREATED
    return {**small, TORCHSERVE_MANIFEST: orjson.dumps(manifest, option=orjson.OPT_INDENT_2)}
