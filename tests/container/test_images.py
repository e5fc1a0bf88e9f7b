"""Both targets of env/Containerfile, built here and run from their root file system: read-only, as their own user, in
namespaces of their own. What an engine does beyond that (pulling, its own health checks, GPUs) is not tried."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from ops.probe import MIN_COSINE
from tests.container.images import Buildah, Image
from tests.container.isolated import Isolated, network
from tests.model_folders import minilm_folder

pytestmark = [
    pytest.mark.container,
    pytest.mark.needs("root", "mmdebstrap", "buildah", "ip"),
    pytest.mark.timeout(1800),
]

TARGETS = ("server", "all-in-one")
TEXT = "How are vectors made?"
MOST_BYTES = 2_500_000_000
HERE, THERE = "10.207.41.1", "10.207.41.2"
START_S, SECOND_START_S, STOP_S = 300, 120, 40


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    """A storage with what the Containerfile builds on."""
    folder = Path(tempfile.mkdtemp(prefix="ek-image-"))
    made = Buildah(folder)
    try:
        made.make_bases()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", params=TARGETS)
def image(request: pytest.FixtureRequest, buildah: Buildah) -> Image:
    """One target, built."""
    buildah.build(request.param)
    return buildah.mount(request.param)


@pytest.fixture
def volumes(image: Image, tmp_path: Path) -> dict[str, Path]:
    """An empty folder of the image's user for each of its volumes."""
    made = {}
    for number, inside in enumerate(sorted(image.config["Volumes"])):
        made[inside] = tmp_path / f"volume{number}"
        made[inside].mkdir(mode=0o700)
        shutil.chown(made[inside], image.user, image.user)
    return made


@contextmanager
def started(image: Image, volumes: dict[str, Path], log: Path) -> Iterator[Isolated]:
    """The image's own command, on a root that nobody can write to."""
    with ExitStack() as stack:
        stack.enter_context(network("ekimg", HERE, THERE))
        running = Isolated(
            tree=image.tree,
            command=image.config["Entrypoint"],
            environ=image.environ,
            user=image.user,
            cwd=image.config["WorkingDir"],
            log=log,
            volumes=volumes,
            network="ekimg",
            read_only=True,
        )
        stack.callback(running.kill)
        yield running


def embed(address: str) -> NDArray[np.float64]:
    answer = requests.post(f"http://{address}:8080/predictions/minilm", json={"input": TEXT}, timeout=30)
    assert answer.status_code == 200, answer.text
    return np.asarray(answer.json()["data"][0]["embedding"])


def healthy(running: Isolated, image: Image, within_s: float) -> float:
    """Run the image's own health check until it is well; returns the seconds since the start."""
    while True:
        assert running.alive, running.log.read_text()
        checked = running.run(*image.config["Healthcheck"]["Test"][1:])
        took = time.monotonic() - running.started
        if checked.returncode == 0:
            return took
        assert took < within_s, f"{checked.stdout}{checked.stderr}\n{running.log.read_text()}"
        time.sleep(0.5)


def test_it_is_small(image: Image) -> None:
    """The CPU image takes less than 2.5 GB, unpacked."""
    print(f"size {image.bytes / 1e9:.2f} GB")
    assert image.bytes < MOST_BYTES


def test_nothing_of_this_machine_stays_in_it(image: Image) -> None:
    """The settings that reach this machine's indexes were lent to the build: no secret, cache or folder is left."""
    left = [image.tree / path for path in ("etc/pip.conf", "run/secrets/ca.pem", "etc/apt/apt.conf.d/99machine")]
    assert [path for path in left if path.exists() and path.stat().st_size] == []
    assert not (image.tree / "root" / ".cache").exists()
    assert sorted(path.name for path in (image.tree / "opt").iterdir()) == ["embedkit", "java"]


def test_only_its_volumes_are_its_users(image: Image) -> None:
    """The user it runs as is not root and owns nothing but var/ and the store."""
    assert image.user == 10001
    owned = {
        f"/{path.relative_to(image.tree)}"
        for path in image.tree.rglob("*")
        if not path.is_symlink() and path.lstat().st_uid == image.user
    }
    assert owned == set(image.config["Volumes"])


def test_it_serves_checks_itself_and_stops(image: Image, volumes: dict[str, Path], tmp_path: Path) -> None:
    """On a read-only root it packs, serves the right vector to other machines, keeps management to itself, finds itself
    healthy, entered by its own door, with packages as they were installed, and ends of a SIGTERM in time with status 0;
    and so again on the same volumes."""
    expected = SentenceTransformer(str(minilm_folder()), device="cpu").encode(TEXT, normalize_embeddings=True)
    with started(image, volumes, tmp_path / "first.log") as running:
        first = healthy(running, image, START_S)
        assert float(embed(THERE) @ expected) >= MIN_COSINE
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{THERE}:8081/models", timeout=5)
        examined = running.run("embedkit", "doctor", "--json")
        assert examined.returncode == 0, examined.stdout
        found = {one["check"]: one["detail"] for one in json.loads(examined.stdout)["findings"]}
        assert found["door"].startswith("container: ")
        assert psutil.Process(running.pid).name() == "tini"
        assert {one.uids().effective for one in running.processes()} == {image.user}
        assert [one for one in running.processes() if one.status() == psutil.STATUS_ZOMBIE] == []
        status, took = running.stop()
        assert (status, running.alive) == (0, False), running.log.read_text()
        assert took < STOP_S
    with started(image, volumes, tmp_path / "second.log") as running:
        second = healthy(running, image, SECOND_START_S)
        assert float(embed(THERE) @ expected) >= MIN_COSINE
        assert running.stop()[0] == 0
    print(f"healthy after {first:.0f} s, on the same volumes after {second:.0f} s; stopped in {took:.1f} s")


def test_the_health_check_sees_stopped_workers(image: Image, volumes: dict[str, Path], tmp_path: Path) -> None:
    """The health check fails while nothing can embed, although TorchServe's port is open."""
    with started(image, volumes, tmp_path / "log") as running:
        healthy(running, image, START_S)
        for worker in [one for one in running.processes() if "--sock-name" in one.cmdline()]:
            worker.suspend()
        assert running.run(*image.config["Healthcheck"]["Test"][1:]).returncode == 1
        with pytest.raises(requests.Timeout):
            requests.post(f"http://{THERE}:8080/predictions/minilm", json={"input": TEXT}, timeout=1)
