"""What the watchdog does about what it sees, without a server."""

from dataclasses import replace

import pytest

from ops.probe import Probe
from ops.supervisor.watchdog.look import Action, Activity, Look, Process
from ops.supervisor.watchdog.policy import LIMITS, Policy
from tests.ops.watchdog.scene import FULL, GONE, GOOD, IDLE, PROGRAMS, TIMEOUT, WELL, Scene, model, seen, worker


def kinds(actions: list[Action]) -> list[tuple[str, str, int]]:
    """(kind, target, pid) of each."""
    return [(one.kind, one.target, one.process.pid if one.process else 0) for one in actions]


def test_a_well_service_is_left_alone() -> None:
    """An hour of good looks and no action."""
    scene = Scene()
    assert all(scene.step(replace(WELL, probes=(GOOD,))) == [] for _ in range(720))


def test_a_stopped_worker_is_ended_alone() -> None:
    """At the second look in a row, idle or under load; the other worker and the server are not touched."""
    scene = Scene()
    stopped = seen(WELL, worker(11, stopped=True), worker(12), probes=(GOOD,))
    assert kinds(scene.sees(stopped, times=2)) == [("end_worker", "minilm", 11)]
    busy = Activity(texts=900, begun=5.0)
    stopped = seen(WELL, worker(13, stopped=True, activity=busy), worker(12), probes=(FULL,))
    scene = Scene()
    assert kinds(scene.sees(stopped, times=2)) == [("end_worker", "minilm", 13)]


def test_one_bad_look_is_none() -> None:
    """Whatever was seen once and not again in the next look begins anew."""
    scene = Scene()
    for bad in (
        seen(WELL, worker(11, stopped=True), worker(12)),
        replace(WELL, server=Process(7, 1.0, stopped=True)),
        replace(WELL, answers=False, models=()),
        seen(WELL),
        replace(WELL, programs={**PROGRAMS, "exporter": "FATAL"}),
    ):
        for _ in range(5):
            assert scene.sees(bad) == []
            assert scene.sees(replace(WELL, probes=(GOOD,))) == []


def test_all_stopped_workers_of_a_model_go_at_once() -> None:
    """Two of two stopped: both are ended in one look."""
    both = seen(WELL, worker(11, stopped=True), worker(12, stopped=True), probes=(TIMEOUT,))
    assert kinds(Scene().sees(both, times=2)) == [("end_worker", "minilm", 11), ("end_worker", "minilm", 12)]


def test_a_worker_that_loops_at_a_known_text_is_ended() -> None:
    """A batch of canaries alone that is not done within 10 s is a hang, also while the other worker answers."""
    scene = Scene()
    looping = seen(WELL, worker(11, activity=Activity(0, begun=5.0, canaries=True)), worker(12), probes=(GOOD,))
    took, actions = scene.until_action(looping, 60)
    assert kinds(actions) == [("end_worker", "minilm", 11)]
    assert 10 < took <= 20


def test_a_slow_long_text_is_no_hang() -> None:
    """A batch of users' texts has all of TorchServe's own timeout, while probes wait behind it and time out."""
    scene = Scene()
    slow = seen(WELL, worker(11, activity=Activity(0, begun=5.0)), wanted=1, probes=(TIMEOUT,))
    took, actions = scene.until_action(slow, 300)
    assert took > 60
    assert kinds(actions) == [("end_worker", "minilm", 11)]


def test_another_batch_begins_anew() -> None:
    """Batches of 55 s each, one after the other, are work."""
    scene = Scene()
    for batch in range(1, 20):
        at_work = seen(WELL, worker(11, activity=Activity(batch * 32, begun=float(batch))), wanted=1, probes=(TIMEOUT,))
        assert scene.sees(at_work, times=11) == []


def test_a_full_queue_is_load() -> None:
    """Probes refused for an hour, while users' texts are embedded, are no illness."""
    scene = Scene()
    for look in range(720):
        at_work = Activity(look * 10, begun=float(look))
        assert scene.sees(seen(WELL, worker(11, activity=at_work), worker(12), probes=(FULL, TIMEOUT))) == []


def test_users_that_get_their_vectors_outweigh_probes() -> None:
    """A probe that fails in another way than by load does not count either, while texts are embedded."""
    scene = Scene()
    odd = Probe("minilm", 0.01, None, "HTTP 500: odd", "refused")
    for look in range(100):
        assert scene.sees(seen(WELL, worker(11, activity=Activity(look)), probes=(odd,), wanted=1)) == []


def test_an_idle_model_that_answers_nobody_loses_its_workers_then_its_server() -> None:
    """Three probes in a row fail and nobody is at work: new workers; if that does not help, a new server."""
    scene = Scene()
    mute = seen(WELL, worker(11), worker(12), probes=(TIMEOUT,))
    assert kinds(scene.sees(mute, times=3)) == [("end_worker", "minilm", 11), ("end_worker", "minilm", 12)]
    still = seen(WELL, worker(13), worker(14), probes=(TIMEOUT,))
    assert kinds(scene.sees(still, times=3)) == [("restart_torchserve", "torchserve", 7)]


def test_a_model_that_was_well_in_between_begins_with_its_workers() -> None:
    """The server is restarted for a model that new workers do not mend, not for one that failed again later."""
    scene = Scene()
    mute = seen(WELL, worker(11), worker(12), probes=(TIMEOUT,))
    assert kinds(scene.sees(mute, times=3)) == [("end_worker", "minilm", 11), ("end_worker", "minilm", 12)]
    scene.sees(seen(WELL, worker(13), worker(14), probes=(GOOD,)))
    again = seen(WELL, worker(13), worker(14), probes=(TIMEOUT,))
    assert kinds(scene.sees(again, times=3)) == [("end_worker", "minilm", 13), ("end_worker", "minilm", 14)]


def test_a_sick_model_does_not_cost_the_others_their_server() -> None:
    """While another model answers, its workers are all that is ended, however often."""
    scene = Scene()
    other = model(worker(21), worker(22), name="other")
    for _ in range(200):
        look = seen(WELL, worker(11), worker(12), probes=(TIMEOUT, Probe("other", 0.1, 1.0)))
        found = scene.step(replace(look, models=(*look.models, other)))
        assert {(one.kind, one.target) for one in found} <= {("end_worker", "minilm")}


def test_a_door_that_is_shut_is_the_servers_fault() -> None:
    """Nothing listens on the inference port while management answers: its workers would not mend that."""
    shut = seen(WELL, worker(11), worker(12), probes=(GONE,))
    assert kinds(Scene().sees(shut, times=3)) == [("restart_torchserve", "torchserve", 7)]


def test_a_wrong_vector_is_for_people() -> None:
    """No restart mends a model: the canary's alert says so, and nothing is ended."""
    wrong = Probe("minilm", 0.01, 0.3, "a wrong vector came back", "wrong_vector")
    scene = Scene()
    assert all(scene.step(seen(WELL, worker(11), worker(12), probes=(wrong,))) == [] for _ in range(100))


def test_without_measurements_it_waits_as_long_as_torchserve() -> None:
    """A worker on a full disk tells nothing: its silence is judged by the model's own timeout."""
    scene = Scene()
    dumb = seen(WELL, worker(11, activity=None), wanted=1, probes=(TIMEOUT,))
    took, actions = scene.until_action(dumb, 300)
    assert 70 < took <= 80
    assert kinds(actions) == [("end_worker", "minilm", 11)]


def test_a_load_has_its_time() -> None:
    """A worker that is not ready is left to TorchServe for the model's whole start-up time, and ended after it."""
    scene = Scene()
    loading = seen(WELL, worker(11, ready=False, activity=None), wanted=1, probes=(FULL,))
    took, actions = scene.until_action(loading, 600)
    assert 310 < took <= 320
    assert kinds(actions) == [("end_worker", "minilm", 11)]


def test_a_model_without_processes_is_revived() -> None:
    """No worker has a process in three looks: down to 0 and up again, to as many as it wants."""
    scene = Scene()
    (action,) = scene.sees(seen(WELL), times=3)
    assert (action.kind, action.target, action.version, action.workers) == ("revive_model", "minilm", "1.0", 2)


def test_one_worker_left_is_not_scaled_away() -> None:
    """While a worker is there, ready or loading, the model is not scaled to 0."""
    scene = Scene()
    assert all(scene.step(seen(WELL, worker(11), probes=(GOOD,))) == [] for _ in range(200))


def test_a_model_scaled_to_0_by_hand_stays_there() -> None:
    """It wants none, so none is missing."""
    scene = Scene()
    assert all(scene.step(seen(WELL, wanted=0, probes=(FULL,))) == [] for _ in range(100))


def test_a_broken_model_is_tried_at_least_every_45_seconds() -> None:
    """For a day: between two attempts never more than that, so that what was mended serves within a minute."""
    scene, last, gaps = Scene(), 0.0, []
    while scene.now < 24 * 3600:
        if scene.step(seen(WELL)):
            gaps.append(scene.now - last)
            last = scene.now
    assert max(gaps) <= 45
    assert scene.policy.budgets(scene.now) == {("revive_model", "minilm"): 0}


def test_a_stopped_server_is_killed() -> None:
    """A SIGTERM would not reach it."""
    scene = Scene()
    stopped = replace(WELL, server=Process(7, 1.0, stopped=True), answers=False, models=())
    (action,) = scene.sees(stopped, times=2)
    assert (action.kind, action.force, action.process) == ("restart_torchserve", True, Process(7, 1.0, True))


def test_a_silent_server_is_told_to_end_and_then_made_to() -> None:
    """SIGTERM after three looks, SIGKILL 10 s later if it is still there: one restart, not two."""
    scene = Scene()
    scene.sees(WELL)
    silent = replace(WELL, answers=False, models=(), probes=(TIMEOUT,))
    (told,) = scene.sees(silent, times=3)
    assert (told.kind, told.force) == ("restart_torchserve", False)
    (made,) = scene.sees(silent, times=2)
    assert (made.kind, made.force) == ("restart_torchserve", True)
    assert scene.policy.budgets(scene.now) == {
        ("restart_torchserve", "torchserve"): LIMITS["restart_torchserve"].budget - 1
    }


def test_a_server_that_answers_users_is_not_silent() -> None:
    """Management hangs, probes come back right: it serves."""
    scene = Scene()
    scene.sees(WELL)
    half = replace(WELL, answers=False, models=(), probes=(GOOD,))
    assert all(scene.step(half) == [] for _ in range(100))


def test_management_that_fails_between_two_probes_is_no_silence() -> None:
    """As it was seen: a model whose probe takes 2 s is probed every 40 s; management is slow for three looks in which
    no probe was due."""
    scene = Scene()
    scene.sees(replace(WELL, probes=(Probe("minilm", 2.0, 1.0),)))
    slow = replace(WELL, answers=False, models=())
    assert all(scene.step(slow) == [] for _ in range(7))
    assert kinds(scene.sees(replace(slow, probes=(TIMEOUT,)))) == [("restart_torchserve", "torchserve", 7)]


def test_users_that_get_their_vectors_outweigh_management() -> None:
    """Management fails and probes time out behind a long queue for an hour, while users' texts are embedded."""
    scene = Scene()
    scene.sees(WELL)
    for look in range(720):
        busy = {(11, 1011.0): Activity(look * 10, begun=float(look))}
        assert scene.step(replace(WELL, answers=False, models=(), found=busy, probes=(TIMEOUT,))) == []


def test_a_long_batch_is_no_silence() -> None:
    """Without management too it has all of TorchServe's own timeout; then the server, which alone can end it, goes."""
    scene = Scene()
    scene.sees(WELL)
    batch = {(11, 1011.0): Activity(0, begun=1.0), (12, 1012.0): IDLE}
    took, actions = scene.until_action(
        replace(WELL, answers=False, models=(), found=batch, probes=(TIMEOUT,)), within_s=300
    )
    assert 70 <= took <= 80
    assert kinds(actions) == [("restart_torchserve", "torchserve", 7)]


def test_a_start_has_its_time() -> None:
    """A server that has never answered is waited for as long as its slowest model may load, and a minute."""
    scene = Scene()
    starting = Look(PROGRAMS, Process(7, 1.0), probes=(GONE,))
    took, actions = scene.until_action(starting, 1000)
    assert 360 < took <= 380
    assert kinds(actions) == [("restart_torchserve", "torchserve", 7)]


def test_probes_that_failed_before_a_model_was_ready_do_not_count() -> None:
    """A start in which nothing listens for a minute, and then at once a ready worker: no sign of illness."""
    scene = Scene()
    starting = Look(PROGRAMS, Process(7, 1.0), probes=(GONE,))
    assert scene.sees(starting, times=12) == []
    assert scene.sees(seen(WELL, worker(11), worker(12), probes=(GONE,)), times=2) == []
    assert scene.sees(seen(WELL, worker(11), worker(12), probes=(GOOD,)), times=20) == []


@pytest.mark.parametrize("state", ["STOPPED", "STOPPING", "STARTING", "BACKOFF", "EXITED", "RUNNING"])
def test_only_a_fatal_program_is_started(state: str) -> None:
    """What an operator has stopped stays so, and what supervisord is at is its own."""
    scene = Scene()
    look = Look({**PROGRAMS, "torchserve": state, "exporter": state})
    assert all(scene.step(look) == [] for _ in range(100))
    fatal = Look({**PROGRAMS, "torchserve": "FATAL"})
    assert kinds(scene.sees(fatal, times=2)) == [("start_program", "torchserve", 0)]


def test_a_pause_ends_nothing_and_forgets_nothing() -> None:
    """While it may not act it does not; what still hangs at its end is acted on at once."""
    scene = Scene()
    stopped = seen(WELL, worker(11, stopped=True), worker(12))
    assert all(scene.step(stopped, may_act=False) == [] for _ in range(100))
    assert kinds(scene.sees(stopped)) == [("end_worker", "minilm", 11)]
    assert scene.policy.budgets(scene.now) == {("end_worker", "minilm"): LIMITS["end_worker"].budget - 1}


def test_a_process_of_the_same_number_is_another() -> None:
    """Signs belong to a process, not to its number."""
    scene = Scene()
    look = seen(WELL, worker(11, stopped=True), worker(12))
    again = Process(11, 99.0, stopped=True)
    other = replace(
        look, models=(replace(look.models[0], workers=(replace(look.models[0].workers[0], process=again),)),)
    )
    assert scene.sees(look) == []
    assert scene.sees(other) == []


def test_a_slow_model_has_more_time_for_a_known_text() -> None:
    """Twenty times what the last probe took, where that is more than 10 s."""
    scene = Scene()
    scene.sees(seen(WELL, worker(11), wanted=1, probes=(Probe("minilm", 2.0, 1.0),)))
    slow = seen(WELL, worker(11, activity=Activity(0, begun=1.0, canaries=True)), wanted=1)
    took, _ = scene.until_action(slow, 100)
    assert 40 < took <= 50


def test_idle_is_the_default() -> None:
    """The scene's workers are idle, else the tests above would show nothing."""
    assert all(one.activity == IDLE for one in WELL.models[0].workers)
    assert Policy(lambda: 0.0).budgets(0) == {}


def test_a_model_that_torchserve_does_not_have_is_given_to_it() -> None:
    """After three looks in a row, and for the next time three more and what the pace says."""
    scene = Scene()
    lost = replace(WELL, models=(), missing=("minilm",))
    assert kinds(scene.sees(lost, times=3)) == [("revive_model", "minilm", 0)]
    assert kinds(scene.sees(lost, times=3)) == [("revive_model", "minilm", 0)]
    assert scene.sees(lost, times=3) == []


def loads_that_end(scene: Scene, pid: int, count: int, wanted: int = 2) -> list[Action]:
    """The actions of so many rounds in which all workers load, and in the next look are gone."""
    found: list[Action] = []
    for number in range(count):
        loading = [worker(pid + wanted * number + one, ready=False, activity=None) for one in range(wanted)]
        found += scene.step(seen(WELL, *loading, wanted=wanted, probes=(FULL,)))
        found += scene.step(seen(WELL, wanted=wanted, probes=(FULL,)))
    return found


def test_a_model_that_was_revived_in_vain_costs_a_restart() -> None:
    """TEMP was emptied and its workers ended, so that no process can be started: revived once, then the server."""
    scene = Scene()
    scene.sees(WELL)
    took, revived = scene.until_action(seen(WELL, probes=(FULL,)), 300)
    assert kinds(revived) == [("revive_model", "minilm", 0)]
    more, restarted = scene.until_action(seen(WELL, probes=(FULL,)), 300)
    assert kinds(restarted) == [("restart_torchserve", "torchserve", 7)]
    assert took + more == 30


def test_workers_that_no_longer_load_cost_a_restart() -> None:
    """What they load is gone: after three loads of each the server is restarted, told once and then made to."""
    scene = Scene()
    scene.sees(WELL)
    assert loads_that_end(scene, 20, 2) == []
    assert kinds(loads_that_end(scene, 30, 1)) == [("restart_torchserve", "torchserve", 7)]
    (made,) = scene.sees(seen(WELL), times=2)
    assert (made.kind, made.force) == ("restart_torchserve", True)


def test_a_load_that_succeeds_begins_anew() -> None:
    """Workers that die now and then and come to be ready are TorchServe's business."""
    scene = Scene()
    for hour in range(10):
        scene.sees(WELL)
        assert loads_that_end(scene, 100 * hour + 20, 2) == []


def test_a_restart_that_did_not_help_is_not_repeated() -> None:
    """A model that has not been ready in this server is revived, however often its loads end: the restarts would cost
    whatever else is served."""
    scene = Scene()
    assert {one.kind for one in loads_that_end(scene, 20, 100)} <= {"revive_model"}
    scene.sees(WELL)
    scene.sees(replace(WELL, server=Process(8, 2.0), models=(model(),)))
    for number in range(100):
        loading = model(worker(300 + number, ready=False, activity=None), wanted=1)
        look = replace(WELL, server=Process(8, 2.0), models=(loading,))
        assert "restart_torchserve" not in {one.kind for one in scene.step(look)}


def test_other_models_bear_that_restart() -> None:
    """Their workers would not load either, once they end."""
    scene, other = Scene(), model(worker(21), worker(22), name="other")
    scene.sees(replace(WELL, models=(*WELL.models, other)))
    found: list[Action] = []
    for number in range(4):
        loading = [worker(30 + 2 * number + one, ready=False, activity=None) for one in range(2)]
        found += scene.step(replace(WELL, models=(model(*loading), other)))
    assert kinds(found) == [("restart_torchserve", "torchserve", 7)]


def test_a_slow_load_is_no_failed_one() -> None:
    """A worker that loads for minutes counts once, when it ends."""
    scene = Scene()
    scene.sees(WELL)
    slow = seen(WELL, worker(20, ready=False, activity=None), worker(21, ready=False, activity=None), probes=(FULL,))
    assert scene.sees(slow, times=50) == []
