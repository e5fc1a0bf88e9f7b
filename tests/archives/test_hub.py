"""Fetching from a hub, over HTTP against the stand-in."""

import errno
import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import orjson
import pytest
import requests
from huggingface_hub import constants, errors  # type: ignore[import-untyped]
from huggingface_hub.utils import reset_sessions  # type: ignore[import-untyped]

from archives import hub
from archives.catalogue import ModelSpec
from archives.errors import FetchError
from archives.fetch import fetch, find_snapshot
from archives.hub_errors import explain
from archives.pack import pack
from archives.progress import Progress
from archives.snapshot import Snapshot
from tests.archives.conftest import LAYOUT, LOCK
from tests.archives.hub_stand_in import COMMIT, HubStandIn, files_of, serving

REPOSITORY = "BAAI/bge-tiny"


class Told(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def advance(self, step: str, done: int, total: int) -> None:
        self.steps.append((step, done, total))


@pytest.fixture
def stand_in(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64 << 10)
    monkeypatch.setattr(hub, "PAUSE_SECONDS", 0.01)
    files = files_of(tiny_folder) | {"tf_model.h5": b"tensorflow", "openvino/model.bin": b"openvino"}
    with serving(HubStandIn(REPOSITORY, files)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    reset_sessions()


def spec(revision: str = COMMIT, repository: str = REPOSITORY) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "tiny",
            "source": {"hub": repository, "revision": revision},
            "handler": "bge",
            "backend": "torch",
            "dtype": "float32",
        }
    )


def left_in(store: Path) -> list[str]:
    """Everything in the store but the lock."""
    return sorted(path.name for path in store.rglob("*") if path.is_file() and path.suffix != ".lock")


def served_as(snapshot: Snapshot) -> dict[str, str]:
    """What lies on disk: file → sha256, without trusting what the snapshot says."""
    return {
        path.relative_to(snapshot.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in snapshot.root.rglob("*")
        if path.is_file()
    }


def test_needed_files_only(stand_in: HubStandIn, tmp_path: Path) -> None:
    """One weight format and the settings arrive; documentation and other frameworks' weights are not even asked for."""
    snapshot = fetch(spec(), tmp_path)
    wanted = {name: hashlib.sha256(content).hexdigest() for name, content in stand_in.files.items()}
    expected = {name for name in wanted if name.endswith((".json", ".txt", ".safetensors"))}
    assert {name: wanted[name] for name in expected} == served_as(snapshot)
    assert {name: wanted[name] for name in expected} == {name: one.sha256 for name, one in snapshot.files.items()}
    assert (snapshot.revision, snapshot.root.parent.name) == (COMMIT, COMMIT)
    unwanted = (
        "README.md",
        "onnx/model.onnx",
        "pytorch_model.bin",
        "tf_model.h5",
        "openvino/model.bin",
        ".gitattributes",
    )
    assert [path for _, path, _, _ in stand_in.log if path.endswith(unwanted)] == []


def test_found_without_network(stand_in: HubStandIn, tmp_path: Path) -> None:
    """What was fetched once is found again without a request."""
    assert find_snapshot(spec(), tmp_path) is None
    first = fetch(spec(), tmp_path)
    stand_in.log.clear()
    assert first == fetch(spec(), tmp_path)
    assert first == find_snapshot(spec(), tmp_path)
    assert stand_in.log == []


def test_packed(stand_in: HubStandIn, tmp_path: Path) -> None:
    """What was fetched, and found again, packs into an archive whose checksums hold and that names the commit."""
    fetch(spec(), tmp_path)
    made = pack(spec(), fetch(spec(), tmp_path), LAYOUT, tmp_path, lock=LOCK)
    with zipfile.ZipFile(made.path) as file:
        assert file.testzip() is None
        assert file.read("model/model.safetensors") == stand_in.files["model.safetensors"]
    assert made.manifest["source"] == {"hub": REPOSITORY, "revision": COMMIT}


def test_incomplete_snapshot_is_fetched_again(stand_in: HubStandIn, tmp_path: Path) -> None:
    """A snapshot that lost a file is not taken for one."""
    snapshot = fetch(spec(), tmp_path)
    (snapshot.root / "config.json").unlink()
    assert find_snapshot(spec(), tmp_path) is None
    fetch(spec(), tmp_path)
    assert (snapshot.root / "config.json").read_bytes() == stand_in.files["config.json"]


def test_progress_counts_the_whole_model(stand_in: HubStandIn, tmp_path: Path) -> None:
    """Progress ends at the sum of all files, and says it once."""
    told = Told()
    snapshot = fetch(spec(), tmp_path, progress=told)
    assert ("download", snapshot.bytes, snapshot.bytes) == told.steps[-1]
    assert [told.steps[-1]] == [step for step in told.steps if step[1] == step[2]]


def test_cut_connection_resumes(stand_in: HubStandIn, tmp_path: Path) -> None:
    """A connection that is cut twice goes on with Range where it stopped, and the file is right."""
    stand_in.cuts = [200 << 10, 200 << 10]
    snapshot = fetch(spec(), tmp_path)
    weights = stand_in.files["model.safetensors"]
    assert hashlib.sha256(weights).hexdigest() == served_as(snapshot)["model.safetensors"]
    starts = [int(one.removeprefix("bytes=").removesuffix("-")) for one in stand_in.ranges()]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] < len(weights)


def test_next_run_goes_on(stand_in: HubStandIn, tmp_path: Path) -> None:
    """A hub that stays away leaves what came so far, hidden; the next run asks for the rest only."""
    stand_in.cuts = [200 << 10] + [0] * (hub.ATTEMPTS - 1)
    with pytest.raises(FetchError, match=r"was cut.*goes on where it stopped"):
        fetch(spec(), tmp_path)
    assert find_snapshot(spec(), tmp_path) is None
    stand_in.log.clear()
    snapshot = fetch(spec(), tmp_path)
    assert len(stand_in.ranges()) == 1
    assert hashlib.sha256(stand_in.files["model.safetensors"]).hexdigest() == served_as(snapshot)["model.safetensors"]
    assert [path.name for path in snapshot.root.parents[1].iterdir()] == [COMMIT]


def test_server_without_range(stand_in: HubStandIn, tmp_path: Path) -> None:
    """A server that sends the whole file where the rest was asked for makes no wrong file: it is begun anew."""
    stand_in.cuts, stand_in.ignore_range = [200 << 10], True
    snapshot = fetch(spec(), tmp_path)
    assert hashlib.sha256(stand_in.files["model.safetensors"]).hexdigest() == served_as(snapshot)["model.safetensors"]


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt"])
def test_wrong_hash(stand_in: HubStandIn, tmp_path: Path, file: str) -> None:
    """A changed byte, in a large file or a small one, is an error that names the file, and nothing is left."""
    stand_in.corrupt = file
    with pytest.raises(FetchError, match=rf"{file} arrived with the hash [0-9a-f]+, the hub announced [0-9a-f]+"):
        fetch(spec(), tmp_path)
    assert left_in(tmp_path) == []


def test_unreachable_hub(stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub: the error names its address and what to do, at once, and nothing is left."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r"BAAI/bge-tiny.*http://127.0.0.1:9 cannot be reached.*HF_ENDPOINT"):
        fetch(spec(), tmp_path)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"repository": "BAAI/bge-nothing"}, r"BAAI/bge-nothing@.*no such repository.*check `hub`"),
        ({"revision": "f" * 40}, r"BAAI/bge-tiny@ffff.*not this revision.*check `revision`"),
    ],
)
def test_unknown(stand_in: HubStandIn, tmp_path: Path, asked: dict[str, str], message: str) -> None:
    """An unknown repository and an unknown revision are told apart, and nothing is left."""
    with pytest.raises(FetchError, match=message):
        fetch(spec(**asked), tmp_path)
    assert left_in(tmp_path) == []


def test_gated(stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gated model asks for HF_TOKEN; with it the files come, and the token goes to the hub alone."""
    stand_in.refuse, stand_in.token = (403, "GatedRepo"), "hf_secret"
    with pytest.raises(FetchError, match=r"asks for permission \(HTTP 403\).*HF_TOKEN"):
        fetch(spec(), tmp_path)
    assert left_in(tmp_path) == []
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(spec(), tmp_path).revision == COMMIT
    assert list({token for _, path, _, token in stand_in.log if path.startswith("/large/")}) == [""]


def test_plain_transformers_model(stand_in: HubStandIn, tmp_path: Path) -> None:
    """Without modules.json nothing is downloaded: the error says what is missing and how to make it."""
    del stand_in.files["modules.json"]
    with pytest.raises(FetchError, match=r"modules.json is missing: a plain transformers model.*SentenceTransformer\("):
        fetch(spec(), tmp_path)
    assert left_in(tmp_path) == []


def test_no_weights(stand_in: HubStandIn, tmp_path: Path) -> None:
    """Weights of other frameworks only: an error that names them, before anything large is downloaded."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        del stand_in.files[name]
    with pytest.raises(FetchError, match=r"no weights.*tf_model.h5, which PyTorch cannot load"):
        fetch(spec(), tmp_path)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "modules.json",
            [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Asym"}],
            r"modules\.json: type 'sentence_transformers\.models\.Asym'",
        ),
        ("config.json", {"model_type": "own", "auto_map": {"AutoModel": "own.Model"}}, r"model_type 'own'.*auto_map"),
        ("1_Pooling/config.json", {"word_embedding_dimension": 64, "x": 1}, r"1_Pooling/config\.json: 'x'"),
        ("tokenizer_config.json", {"tokenizer_class": "pipeline"}, r"tokenizer_class 'pipeline'"),
        ("sentence_bert_config.json", {"tokenizer_args": {}}, r"'tokenizer_args'"),
        ("adapter_config.json", {}, r"adapter_config\.json"),
    ],
)
def test_refused_before_weights(file: str, content: object, message: str, stand_in: HubStandIn, tmp_path: Path) -> None:
    """What may not be served is refused by the small files: no weight is asked for, the error names the repository
    and the file in it, and nothing is left."""
    stand_in.files[file] = orjson.dumps(content)
    with pytest.raises(FetchError, match=rf"{REPOSITORY}@{COMMIT}.*{message}"):
        fetch(spec(), tmp_path)
    assert [path for _, path, _, _ in stand_in.log if path.endswith((".safetensors", ".bin", "vocab.txt"))] == []
    assert left_in(tmp_path) == []


def test_disk_too_small(stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that cannot fit is refused before its weights are asked for, and nothing is left."""
    monkeypatch.setattr(hub, "SPARE_BYTES", 1 << 60)
    with pytest.raises(FetchError, match=r"lacks \d+ MB of it: make room"):
        fetch(spec(), tmp_path)
    assert left_in(tmp_path) == []
    assert [path for path in stand_in.paths("GET") if path.startswith("/large/")] == []


def test_repository_spelled_otherwise(stand_in: HubStandIn, tmp_path: Path) -> None:
    """A name that the hub redirects (another case, a renamed owner) is followed."""
    stand_in.alias = "baai/bge-tiny"
    snapshot = fetch(spec(repository="baai/bge-tiny"), tmp_path)
    assert (snapshot.root / "vocab.txt").read_bytes() == stand_in.files["vocab.txt"]


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt"])
def test_mirror_without_listed_hashes(stand_in: HubStandIn, tmp_path: Path, file: str) -> None:
    """Where the listing has no hashes, those of the files' headers are compared."""
    stand_in.hashes_listed = False
    fetch(spec(), tmp_path / "good")
    stand_in.corrupt = file
    with pytest.raises(FetchError, match=rf"{file} arrived with the hash"):
        fetch(spec(), tmp_path / "bad")


def test_full_disk(stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up meanwhile is named as what it is, and nothing is left."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("huggingface_hub.file_download.http_get", Mock(side_effect=full))
    with pytest.raises(FetchError, match=r"fetching tiny: no space left on the disk"):
        fetch(spec(), tmp_path)
    assert left_in(tmp_path) == []


def test_branch_is_resolved_once(stand_in: HubStandIn, tmp_path: Path) -> None:
    """A branch is warned of and its commit kept: the same files again until a refresh is asked for."""
    stand_in.branches["main"] = COMMIT
    told = Told()
    first = fetch(spec("main"), tmp_path, progress=told)
    assert first.revision == COMMIT
    assert [f"'main' of {REPOSITORY} can move; it is at {COMMIT}" in line for line in told.lines] == [True]
    stand_in.commit = stand_in.branches["main"] = "a" * 40
    stand_in.log.clear()
    assert first == fetch(spec("main"), tmp_path)
    assert stand_in.log == []
    assert fetch(spec("main"), tmp_path, refresh=True).revision == "a" * 40
    moved = find_snapshot(spec("main"), tmp_path)
    assert moved is not None
    assert moved.revision == "a" * 40


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
        (requests.exceptions.SSLError("certificate"), "REQUESTS_CA_BUNDLE"),
        (requests.exceptions.ProxyError("proxy"), "HTTPS_PROXY"),
        (requests.exceptions.ReadTimeout("slow"), "did not answer in time"),
    ],
)
def test_explanations(error: Exception, message: str) -> None:
    """Other ways not to reach a hub each get their own next step."""
    wrapped = errors.LocalEntryNotFoundError("not in the cache")
    wrapped.__cause__ = error
    assert message in explain(wrapped, REPOSITORY, COMMIT, "https://hub.example")
