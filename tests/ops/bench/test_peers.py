"""Servers to compare with: complete pins, and starting one either works or says why."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ops.bench.peers import FOLDER, PEERS, Peer, Setting, chosen, running, settings_of, versions
from ops.bench.peers_lock import without_cuda
from ops.errors import OpsError
from ops.probe import Reference

SETTING = Setting("float32", 32, 1)
REFERENCE = Reference("a text", (1.0, 0.0))
# A server that answers every POST with the vector of its command line.
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = b'{"data": [{"embedding": [%s]}]}' % sys.argv[2].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def peer(script: str, *words: str) -> Peer:
    def command(programs: Path, model: Path, port: int, setting: Setting) -> list[str]:
        return [sys.executable, "-c", script, str(port), *words]

    return Peer("peer", "/", None, command, process_a_core=False)


def test_their_versions_are_told() -> None:
    """Of each the one that is installed."""
    found = versions([*PEERS])
    assert set(found) == set(PEERS)
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in found.values()), found


@pytest.mark.parametrize("name", PEERS)
def test_requirements_are_pinned_and_hashed(name: str) -> None:
    """Every package exactly pinned with a hash, none of CUDA's, torch as its CPU build, no index named."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", text, flags=re.MULTILINE)
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(entries) == len(lines) > 20
    assert dict(entries)["torch"].endswith("+cpu")
    assert dict(entries)["transformers"] == "4.48.3"
    assert not [package for package, _ in entries if package.startswith(("nvidia", "cuda", "triton"))]
    assert "://" not in text
    assert "index" not in text


def test_packages_of_cuda_are_left_out_whole() -> None:
    """Their hashes too; what only begins like them stays."""
    text = "nvidia-cublas==1 \\\n    --hash=a \\\n    --hash=b\ncudf==1 \\\n    --hash=c\ntriton==2 \\\n    --hash=d\n"
    assert without_cuda(text) == "cudf==1 \\\n    --hash=c\n"


def test_every_peer_is_tried_in_both_precisions() -> None:
    """Its best setting counts: a process a core where it has processes, small batches too in a full run."""
    infinity, mosec = chosen(["infinity", "mosec"])
    assert {(setting.dtype, setting.workers) for setting in settings_of(mosec, 4, quick=True)} == {
        ("float32", 4),
        ("bfloat16", 4),
    }
    assert {setting.workers for setting in settings_of(infinity, 4, quick=True)} == {1}
    assert len(settings_of(mosec, 4, quick=False)) == 2 * len(settings_of(mosec, 4, quick=True))
    with pytest.raises(OpsError, match="no server 'vllm'"):
        chosen(["vllm"])


def start(one: Peer, folder: Path) -> int:
    log = folder / "log"
    with running(one, SETTING, programs=folder, model=folder, reference=REFERENCE, log=log) as target:
        return target.port


def test_a_peer_counts_once_it_gives_the_models_vectors(tmp_path: Path) -> None:
    """Served when the reference text came back as the reference vector; refused where another one came."""
    assert start(peer(SERVER, "0.5, 0.001"), tmp_path) > 0
    with pytest.raises(OpsError, match="other vectors than the model: cosine 0"):
        start(peer(SERVER, "0, 1"), tmp_path)


def test_a_peer_that_ends_says_why(tmp_path: Path) -> None:
    """Its status and last words are in the error."""
    with pytest.raises(OpsError, match=r"ended with status 3 at its start:\nno such model"):
        start(peer("import sys; print('no such model', flush=True); sys.exit(3)"), tmp_path)


def test_a_peer_that_stays_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for ever, and its processes are gone afterwards."""
    monkeypatch.setattr("ops.bench.peers.START_S", 0.5)
    with pytest.raises(OpsError, match="has not answered within"):
        start(replace(peer("import time; time.sleep(60)"), name="silent"), tmp_path)
