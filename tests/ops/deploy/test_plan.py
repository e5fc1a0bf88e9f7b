"""From what the server has to the next step, on a server that is only a list of versions."""

from dataclasses import dataclass, field, replace

import pytest

from ops.deploy.plan import MakeDefault, Register, Remove, Step, Verify, bridge_name, next_step
from ops.deploy.versions import CLOSED
from ops.desired import Served
from ops.torchserve.management import Loaded

OLD = Served("m", "1.0", "m-1.0-aaaaaaaaaaaa.mar", "a" * 64)
NEW = Served("m", "1.0", "m-1.0-bbbbbbbbbbbb.mar", "b" * 64)
LATER = Served("m", "1.1", "m-1.1-cccccccccccc.mar", "c" * 64)
BRIDGE = bridge_name(NEW)


def version(name: str, archive: str) -> Loaded:
    return Loaded("m", name, archive, 1, 32, (), 256, 0)


def home(one: Served) -> Loaded:
    return version(one.version, one.archive)


def bridge(one: Served) -> Loaded:
    return version(bridge_name(one), one.archive.removesuffix(".mar"))


@dataclass
class Server:
    """In TorchServe's place: versions, the default first. It refuses what TorchServe refuses."""

    loaded: list[Loaded]
    steps: list[Step] = field(default_factory=list)

    def bring_to(self, target: Served, most: int = 20) -> list[Step]:
        """All steps until there is none, or `most` of them."""
        verified: set[str] = set()
        steps: list[Step] = []
        while len(steps) < most and (step := next_step(target, self.loaded, verified)) is not None:
            steps.append(step)
            self._take(step, target, verified)
        return steps

    def _take(self, step: Step, target: Served, verified: set[str]) -> None:
        names = [one.version for one in self.loaded]
        match step:
            case Register(name, bridged):
                assert name not in names, "a version is registered once"
                self.loaded.append(bridge(target) if bridged else home(target))
            case Verify(name):
                assert name in names
                verified.add(name)
            case MakeDefault(name):
                assert name in verified, "nobody is sent to a version that has not answered"
                self.loaded.sort(key=lambda one: one.version != name)
            case Remove(name):
                assert name != names[0], "TorchServe keeps the default version"
                self.loaded = [one for one in self.loaded if one.version != name]


def test_an_archive_of_the_same_version_takes_a_bridge() -> None:
    """Beside the old under a name of its own, then under its own, so that no request without a version is refused."""
    assert Server([home(OLD)]).bring_to(NEW) == [
        Register(BRIDGE, bridge=True),
        Verify(BRIDGE),
        MakeDefault(BRIDGE),
        Remove("1.0"),
        Register("1.0", bridge=False),
        Verify("1.0"),
        MakeDefault("1.0"),
        Remove(BRIDGE),
    ]


def test_another_version_needs_none() -> None:
    """A version of its own is loaded once."""
    assert Server([home(OLD)]).bring_to(LATER) == [
        Register("1.1", bridge=False),
        Verify("1.1"),
        MakeDefault("1.1"),
        Remove("1.0"),
    ]


def test_what_is_served_is_only_looked_at() -> None:
    """Nothing to change: one answer is asked for."""
    assert Server([home(NEW)]).bring_to(NEW) == [Verify("1.0")]


def test_a_model_that_is_not_there_is_loaded() -> None:
    """The first version of a model is its default at once."""
    assert Server([]).bring_to(NEW) == [Register("1.0", bridge=False), Verify("1.0")]


@pytest.mark.parametrize("steps", range(9))
@pytest.mark.parametrize("then", [OLD, NEW, LATER])
def test_whoever_comes_next_goes_on_from_anywhere(steps: int, then: Served) -> None:
    """A deploy that ends after any step is finished, undone or overtaken by the next; each ends with that alone."""
    server = Server([home(OLD)])
    server.bring_to(NEW, most=steps)
    server.bring_to(then)
    assert server.loaded == [home(then)]


def test_undoing_loads_nothing() -> None:
    """Before the default has moved, the way back is to take the new one out."""
    assert Server([home(OLD), bridge(NEW)]).bring_to(OLD) == [Remove(BRIDGE), Verify("1.0")]


def test_a_model_that_was_only_closed_is_opened() -> None:
    """What an interrupted `down --drain` leaves: the version is still there and only refuses."""
    assert Server([version(CLOSED, "m-closed-"), home(OLD)]).bring_to(OLD) == [
        Verify("1.0"),
        MakeDefault("1.0"),
        Remove(CLOSED),
    ]


def test_an_own_version_in_another_archive_is_foreign() -> None:
    """The name alone does not make it the target."""
    other = replace(home(NEW), archive="m-1.0-dddddddddddd.mar")
    assert next_step(NEW, [other], {"1.0"}) == Register(BRIDGE, bridge=True)
