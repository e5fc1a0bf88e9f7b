"""Unpacking a bundle: what arrives, and that nothing does where the bundle is damaged, hostile or for another machine.
The bundles are small ones of the real writer; `test_offline.py` takes a whole one."""

import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archives.progress import SILENT
from ops.bundle.install import MANIFEST, SCRIPT, BundleError, install
from ops.bundle.write import write_tar

ABOUT = {"format": 1, "torch": "cpu", "python": "3.11", "machine": platform.machine(), "models": ["minilm"]}


def bundle_of(folder: Path, **about: Any) -> Path:
    """A bundle of two files, one of them a program."""
    folder.mkdir(exist_ok=True)
    (folder / "a").write_bytes(b"a" * 5000)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o700)
    files = {"deep/down/a": folder / "a", "run": folder / "run"}
    target = folder / "x.tar"
    write_tar(target, ABOUT | about, files, SILENT)
    return target


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundle_of(tmp_path / "made")


def rewritten(bundle: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Path:
    """The same bundle with other members."""
    with tarfile.open(bundle) as tar:
        members = {one.name: tar.extractfile(one).read() for one in tar.getmembers()}  # type: ignore[union-attr]
    changed = bundle.with_name("changed.tar")
    with tarfile.open(changed, "w") as tar:
        for name, content in change(members).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return changed


def refused(bundle: Path, target: Path, why: str) -> None:
    """Installing fails with this reason and leaves nothing, not even beside the target."""
    before = set(target.parent.iterdir())
    with pytest.raises(BundleError, match=why):
        install(bundle, target)
    assert set(target.parent.iterdir()) == before


def test_what_was_bundled_arrives(bundle: Path, tmp_path: Path) -> None:
    """Files come with their content, programs can be run, and the result says what it is."""
    done = install(bundle, tmp_path / "new")
    assert (done.torch, done.models, done.files, done.bytes) == ("cpu", ["minilm"], 2, 5010)
    assert (tmp_path / "new" / "deep" / "down" / "a").read_bytes() == b"a" * 5000
    assert {name: (tmp_path / "new" / name).stat().st_mode & 0o777 for name in ("run", "deep/down/a")} == {
        "run": 0o755,
        "deep/down/a": 0o644,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "new"]


def test_it_installs_itself_without_embedkit(bundle: Path, tmp_path: Path) -> None:
    """tar and Python alone do it: the first member is the script, and it imports nothing but the standard library."""
    subprocess.run(["tar", "xf", str(bundle), SCRIPT], cwd=tmp_path, check=True)
    command = [sys.executable, "-I", "-S", SCRIPT, str(bundle), "there"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "TORCH=cpu make up" in done.stdout
    assert (tmp_path / "there" / "run").exists()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "is there already" in again.stderr


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99, 1.0])
def test_a_cut_off_bundle_installs_nothing(bundle: Path, tmp_path: Path, share: float) -> None:
    """Wherever the file ends before its last content byte, it is an error that says so."""
    with tarfile.open(bundle) as tar:
        last = tar.getmembers()[-1]
    bundle.write_bytes(bundle.read_bytes()[: int(share * (last.offset_data + last.size - 1))])
    refused(bundle, tmp_path / "new", "damaged or cut off")


def test_one_changed_byte_installs_nothing(bundle: Path, tmp_path: Path) -> None:
    """A file whose content is not what was bundled is named."""
    content = bundle.read_bytes()
    at = content.index(b"aaaa")
    bundle.write_bytes(content[:at] + b"b" + content[at + 1 :])
    refused(bundle, tmp_path / "new", r"damaged.*deep/down/a has another checksum")


def test_what_leads_out_is_refused(bundle: Path, tmp_path: Path) -> None:
    """A member outside the tree is refused, in the manifest as in the tar, and so is a link."""
    for name in ("tree/../../evil", "/evil", "evil", "tree/./evil", "tree//evil"):
        added = rewritten(bundle, lambda members, name=name: members | {name: b"x"})  # type: ignore[misc]
        refused(added, tmp_path / "new", "no plain file of the bundle")

    def listed(members: dict[str, bytes]) -> dict[str, bytes]:
        manifest = json.loads(members[MANIFEST])
        manifest["files"]["tree/../evil"] = {"sha256": "", "bytes": 1}
        return members | {MANIFEST: json.dumps(manifest).encode()}

    refused(rewritten(bundle, listed), tmp_path / "new", "leads out of the bundle")
    with tarfile.open(bundle, "a") as tar:
        link = tarfile.TarInfo("tree/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    refused(bundle, tmp_path / "new", "no plain file of the bundle")


def test_files_that_the_manifest_does_not_know_are_refused(bundle: Path, tmp_path: Path) -> None:
    """Neither a file too many nor one too few is installed."""
    more = rewritten(bundle, lambda members: members | {"tree/more": b"x"})
    refused(more, tmp_path / "new", "does not list")
    fewer = rewritten(bundle, lambda members: {name: one for name, one in members.items() if name != "tree/run"})
    refused(fewer, tmp_path / "new", "1 files are missing, such as tree/run")


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"python": "3.12"}, r"cpu wheels of Python 3\.12 .* this is Python 3\.11"),
        ({"machine": "aarch64"}, "on aarch64"),
        ({"format": 2}, "of format 2, this reads 1"),
    ],
)
def test_a_bundle_for_another_machine_is_refused(tmp_path: Path, about: dict[str, Any], why: str) -> None:
    """Wheels of another Python or processor could not be installed, so nothing is unpacked."""
    refused(bundle_of(tmp_path / "made", **about), tmp_path / "new", why)


def test_a_full_disk_is_said_before(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is free and what is needed are compared before anything is written."""
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    refused(bundle, tmp_path / "new", "0 MB free")


def test_no_bundle_at_all(tmp_path: Path) -> None:
    """A missing file and a file of another kind are told apart."""
    refused(tmp_path / "none.tar", tmp_path / "new", "no such bundle")
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w"):
        pass
    refused(other, tmp_path / "new", "no bundle of embedkit")
