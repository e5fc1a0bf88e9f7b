"""The commands that change what is served, killed (kill -9) before each of their steps, and what the next one does.

A step is a request that changes the server, or a file that appears, is linked or goes. `embedkit deploy` and `rollback`
run as they are, in a process of their own; what takes minutes in their way, packing and supervisord, does not.
"""

import itertools
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from archives.pack import PackedArchive
from archives.placement import Need
from archives.progress import Progress
from archives.snapshot import hash_file
from archives.store import archive_path
from ops import cli, loopback, prepare, serving, up
from ops.deploy import command, converge, drain
from ops.desired import Served, desired_file, previous_file, read_changes, read_models, rolled_back_file
from ops.gateway import live
from ops.probe import Reference
from ops.served import publish
from ops.settings import Settings
from ops.supervisor.control import Program
from ops.taken import Taken
from tests.e2e.stack import free_ports
from tests.ops.deploy.torchserve_stand_in import TorchServe, Version, write_archive
from tests.ops.deploy.torchserve_stand_in import serving as torchserve_serving

CATALOGUE = '[m]\nsource = {{ folder = "m" }}\nversion = "{version}"\n'
# What was deployed one after the other: content → version.
HISTORIES = {
    "one version": {"older": "1.0", "old": "1.0", "new": "1.0"},
    "three versions": {"older": "1.0", "old": "1.1", "new": "1.2"},
    "there and back": {"older": "1.0", "old": "1.1", "new": "1.0"},
}
Kept = tuple[Path, list[Version]]
VECTORS = {"older": [1.0, 0.0, 0.0], "old": [0.0, 1.0, 0.0], "new": [0.0, 0.0, 1.0]}


class Supervised:
    """In supervisord's place: TorchServe runs."""

    def __init__(self, _: Settings) -> None:
        pass

    def running(self) -> bool:
        return True

    def runs(self, name: str) -> bool:
        return name == "torchserve"

    def program(self, name: str) -> Program:
        return Program(name, "RUNNING", 1, 1, 1, 0, "", "")

    def programs(self) -> list[Program]:
        return [self.program("torchserve")]

    def reread(self) -> None:
        return None


class Saying(Progress):
    def say(self, line: str) -> None:
        print(line)


@dataclass
class Deployment:
    """A deployment of one model. `history`: see HISTORIES."""

    settings: Settings
    torchserve: TorchServe
    history: dict[str, str]
    archives: dict[str, Served] = field(default_factory=dict)

    def keep(self) -> Kept:
        """All there is now, for `restore`."""
        kept = Path(tempfile.mkdtemp(dir=self.settings.var.parent))
        for folder in (self.settings.var, self.settings.store):
            shutil.copytree(folder, kept / folder.name)
        return kept, list(self.torchserve.versions)

    def restore(self, kept: Kept) -> None:
        self.torchserve.versions = list(kept[1])
        for folder in (self.settings.var, self.settings.store):
            shutil.rmtree(folder)
            shutil.copytree(kept[0] / folder.name, folder)

    def killed(self, words: str) -> Iterator[int]:
        """The command killed before its first step, its second, … each time on what there is now, until it ends."""
        kept = self.keep()
        for step in itertools.count():
            self.restore(kept)
            status, said = self.run(words, kill_before=step)
            if status is not None:
                assert status == 0, said
                assert step > 0
                return
            yield step

    def content(self, name: str) -> list[float]:
        same = self.history["new"] == self.history["older"] != self.history["old"]
        return VECTORS["older" if same else name]

    def choose(self, name: str) -> None:
        """What models.toml and the packed archive say from now on."""
        self.settings.models_file.write_text(CATALOGUE.format(version=self.history[name]))
        write_archive(self.settings, "m", self.history[name], self.content(name))

    def run(self, words: str, *, kill_before: int | None = None) -> tuple[int | None, str]:
        """`embedkit deploy`, `rollback` or `up`; returns its exit status, None where it was killed, and its output."""
        said = self.settings.var / "said"
        if (child := os.fork()) == 0:
            try:
                sys.stdout = sys.stderr = said.open("w", buffering=1)
                self._become(words, kill_before)
            except BaseException:
                traceback.print_exc()
            os._exit(99)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code != 99, said.read_text()
        return (None if code == -signal.SIGKILL else code), said.read_text()

    def _become(self, words: str, kill_before: int | None) -> None:
        """In the child: replace what takes minutes, count the steps, run the command, end."""
        for module in (command, converge, serving, live, up):
            module.Supervisor = Supervised  # type: ignore[attr-defined]
        drain.is_busy = lambda *_: False  # type: ignore[attr-defined]
        drain.ON_THE_WAY_S = 0.0
        cli.running_settings = lambda: self.settings
        command.prepare = lambda *_: self.prepared()  # type: ignore[attr-defined]
        up.make_ready = self._ready  # type: ignore[assignment]
        up.write_configuration = lambda *_: Taken(self.settings, {})
        up.wait_until_answering = lambda *_: None  # type: ignore[attr-defined]
        count = itertools.count()

        def step(*_: object) -> None:
            if next(count) == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)

        request = loopback.request

        def counted(method: str, url: str, **options: Any) -> requests.Response:
            if method in {"POST", "PUT", "DELETE"} and "/models" in url:
                step()
            return request(method, url, **options)

        loopback.request = counted
        sys.addaudithook(lambda event, _: step() if event in {"os.rename", "os.link", "os.remove"} else None)
        if words == "up":
            up.bring_up(self.settings, [], Saying())
            os._exit(0)
        try:
            cli.app([words, "m", "--drain-timeout", "0"])
        except SystemExit as ended:
            os._exit(int(ended.code or 0))

    def prepared(self) -> prepare.Prepared:
        """What packing and verifying have come to."""
        (version,) = {v for v in self.history.values() if f'"{v}"' in self.settings.models_file.read_text()}
        path = archive_path(self.settings.store, "m", version)
        one = publish(self.settings, "m", version, PackedArchive(path, hash_file(path).sha256, {}, changed=False))
        return prepare.Prepared(one, Reference("a text", ()), Need("m", 1, 1, on_gpu=False))

    def _ready(self, *_: object) -> dict[str, prepare.Prepared]:
        return {"m": self.prepared()}

    def deployed(self, name: str) -> None:
        """A whole deploy, or the first `up`."""
        self.choose(name)
        self.archives[name] = self.prepared().served
        first = not self.torchserve.versions
        assert self.run("up" if first else "deploy")[0] == 0

    @property
    def state(self) -> tuple[Served | None, Served | None, Served | None]:
        """What is desired, what was served before, what was rolled back from."""
        files = (desired_file, previous_file, rolled_back_file)
        desired, previous, left = (read_models(file(self.settings)).get("m") for file in files)
        return desired, previous, left

    def serves(self, name: str) -> bool:
        """Whether this archive alone is served, under its own name, and is what a restart serves; and nothing is
        underway."""
        one = self.archives[name]
        for _ in range(2):
            answer = requests.post(self.settings.inference_url("/predictions/m"), json={}, timeout=5).json()
            if answer["data"][0]["embedding"] != self.content(name):
                return False
            if [(it.name, it.archive) for it in self.torchserve.versions] != [(one.version, one.archive)]:
                return False
            self.torchserve.restart()
        return self.state[0] == one and not read_changes(self.settings)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    inference, management = free_ports(2)
    return Settings(
        var=tmp_path / "var",
        store=tmp_path / "store",
        models_file=tmp_path / "models.toml",
        default_model="m",
        inference_port=inference,
        management_port=management,
    )


@pytest.fixture(params=["one version", pytest.param("three versions", marks=pytest.mark.slow), "there and back"])
def history(request: pytest.FixtureRequest) -> dict[str, str]:
    return HISTORIES[request.param]


@pytest.fixture
def deployment(settings: Settings, history: dict[str, str]) -> Iterator[Deployment]:
    """It has served `older`, then `old`, and models.toml says `new`."""
    for folder in (settings.var, settings.store):
        folder.mkdir()
    with torchserve_serving(TorchServe(settings)) as torchserve:
        made = Deployment(settings, torchserve, history)
        made.deployed("older")
        made.deployed("old")
        made.choose("new")
        made.archives["new"] = made.prepared().served
        assert made.serves("old")
        yield made


def began(deployment: Deployment) -> bool:
    """Whether the command had come to change anything; before that the server is untouched."""
    if read_changes(deployment.settings) or deployment.state[0] == deployment.archives["new"]:
        return True
    assert deployment.serves("old")
    return False


@pytest.mark.parametrize("words", ["deploy", pytest.param("up", marks=pytest.mark.slow)])
@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
def test_a_rollback_undoes_it(words: str, restarted: bool, deployment: Deployment) -> None:
    """Wherever a deploy, or an `up` that deploys, was killed, with or without a restart of TorchServe after it: what
    served before it began is served alone and desired, the command says so, and `up` stays with it. Before it began
    there is only the deploy before it to go back from."""
    old, new = deployment.archives["old"], deployment.archives["new"]
    undone = 0
    for step in deployment.killed(words):
        back = "old" if began(deployment) else "older"
        if restarted:
            deployment.torchserve.restart()
        status, said = deployment.run("rollback")
        assert (status, deployment.serves(back)) == (0, True), (step, said)
        if back == "old":
            undone += 1
            assert f"{old.archive} in place of {new.archive}" in said, step
            assert "nothing to change" not in said, step
            assert deployment.state[2] == new, step
            if not restarted:
                assert "as it was rolled back" in deployment.run("up")[1], step
                assert deployment.serves("old"), step
    assert undone > 5
    status, said = deployment.run("rollback")  # of the one that came to its end
    assert (status, deployment.serves("old")) == (0, True), said


@pytest.mark.parametrize("words", ["deploy", pytest.param("up", marks=pytest.mark.slow)])
def test_the_next_one_finishes_it(words: str, deployment: Deployment) -> None:
    """Wherever a deploy was killed the next deploy or `up` goes forward, and a rollback then goes back."""
    for step in deployment.killed("deploy"):
        status, said = deployment.run(words)
        assert (status, deployment.serves("new")) == (0, True), (step, said)
        assert deployment.state[1:] == (deployment.archives["old"], None), step
        assert (deployment.run("rollback")[0], deployment.serves("old")) == (0, True), step


def test_a_rollback_that_was_killed_is_run_again(deployment: Deployment) -> None:
    """Wherever it was killed, it goes on to the same archive; then `up` stays there, and a deploy goes forward."""
    assert deployment.run("deploy")[0] == 0
    for step in deployment.killed("rollback"):
        status, said = deployment.run("rollback")
        assert (status, deployment.serves("old")) == (0, True), (step, said)
        assert deployment.state[1:] == (deployment.archives["new"],) * 2, step
    assert "as it was rolled back" in deployment.run("up")[1]
    assert deployment.serves("old")
    assert (deployment.run("deploy")[0], deployment.serves("new")) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize("history", [HISTORIES["one version"]], ids=["one version"])
def test_a_rollback_of_a_killed_deploy_is_killed_too(deployment: Deployment) -> None:
    """Twice in a row, at every fourth step of the first and each of the second: the third command ends it."""
    kept = deployment.keep()
    for first in list(deployment.killed("deploy"))[::4]:
        deployment.restore(kept)
        deployment.run("deploy", kill_before=first)
        if began(deployment):
            for second in deployment.killed("rollback"):
                status, said = deployment.run("rollback")
                assert (status, deployment.serves("old")) == (0, True), (first, second, said)


@pytest.mark.parametrize("history", [HISTORIES["three versions"]], ids=["three versions"])
def test_several_interrupted_deploys_have_one_way_back(deployment: Deployment) -> None:
    """To what served alone last, whatever was begun since."""
    for name, until in (("new", ["1.2", "1.1"]), ("older", ["1.0", "1.2"])):
        deployment.choose(name)
        assert any([it.name for it in deployment.torchserve.versions] == until for _ in deployment.killed("deploy"))
    assert (deployment.run("rollback")[0], deployment.serves("old")) == (0, True)


@pytest.mark.parametrize("history", [HISTORIES["one version"]], ids=["one version"])
def test_where_nothing_was_deployed_before(deployment: Deployment) -> None:
    """An error that says so, after a first `up` and after one that was killed; what is served stays."""
    deployment.torchserve.versions.clear()
    for folder in (deployment.settings.var, deployment.settings.store):
        shutil.rmtree(folder)
        folder.mkdir()
    deployment.choose("new")
    for step in deployment.killed("up"):
        wanted = deployment.state
        status, said = deployment.run("rollback")
        assert (status, deployment.state) == (1, wanted), step
        assert ("there is no archive to go back to" if wanted[0] else "`embedkit up m` adds it") in said, step
    assert "there is no archive to go back to" in deployment.run("rollback")[1]
    assert deployment.serves("new")
