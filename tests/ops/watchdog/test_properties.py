"""What holds whatever the watchdog sees."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ops.probe import Outcome, Probe
from ops.supervisor.watchdog.look import KINDS, Activity, Look, ModelLook, Process, WorkerLook
from ops.supervisor.watchdog.pace import WINDOW_S, Limits, Pace
from ops.supervisor.watchdog.policy import LIMITS, Policy

OUTCOMES: list[Outcome] = ["ok", "wrong_vector", "refused", "timeout", "unreachable"]
STATES = ["STOPPED", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED", "FATAL"]

processes = st.builds(Process, st.integers(1, 4), st.sampled_from([1.0, 2.0]), st.booleans())
activities = st.none() | st.builds(
    Activity, st.integers(0, 3).map(float), st.none() | st.sampled_from([1.0, 2.0]), st.booleans()
)
workers = st.lists(st.builds(WorkerLook, processes, st.booleans(), activities), max_size=3)
models = st.builds(
    ModelLook,
    st.sampled_from(["a", "b"]),
    st.just("1.0"),
    st.integers(0, 2),
    workers.map(tuple),
    st.just(60.0),
    st.just(300.0),
)
outcomes = st.sampled_from(OUTCOMES)
probes = outcomes.flatmap(
    lambda outcome: st.builds(
        Probe, st.sampled_from(["a", "b"]), st.just(0.1), st.just(1.0), st.just("" if outcome == "ok" else "no"),
        st.just(outcome),
    )
)  # fmt: skip
looks = st.builds(
    Look,
    st.fixed_dictionaries({"torchserve": st.sampled_from(STATES), "exporter": st.sampled_from(STATES)}),
    st.none() | processes,
    st.booleans(),
    st.lists(models, max_size=2, unique_by=lambda one: one.model).map(tuple),
    st.lists(probes, max_size=3).map(tuple),
    st.sets(st.sampled_from(["c", "d"])).map(tuple),
    st.dictionaries(st.tuples(st.integers(1, 4), st.sampled_from([1.0, 2.0])), activities, max_size=3),
)
# what lasts is what leads to actions
runs = st.lists(st.tuples(looks, st.integers(1, 12)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(runs)
def test_every_action_has_its_sign_in_this_look(run: list[tuple[Look, int]]) -> None:
    """Only what is seen now is acted on: a program that is FATAL, a server and workers that are there, a model that has
    no worker or is missing."""
    policy, now = Policy(lambda: 0.5), 0.0
    for look, times in run:
        for _ in range(times):
            now += 5
            for action in policy.step(now, look):
                if action.kind == "start_program":
                    assert look.programs[action.target] == "FATAL"
                elif action.kind == "restart_torchserve":
                    assert action.process == look.server
                elif action.kind == "end_worker":
                    seen = [
                        one.process for model in look.models for one in model.workers if model.model == action.target
                    ]
                    assert action.process in seen
                elif action.target in look.missing:
                    assert (action.version, action.workers) == ("", 0)
                else:
                    empty = [one for one in look.models if one.model == action.target and not one.workers]
                    assert empty
                    assert action.workers == empty[0].wanted > 0
                assert action.reason


@settings(max_examples=60, deadline=None)
@given(runs)
def test_no_look_of_a_pause_leads_to_an_action(run: list[tuple[Look, int]]) -> None:
    """Whatever is seen, nothing is done and no budget is drawn on."""
    policy, now = Policy(lambda: 0.5), 0.0
    for look, times in run:
        for _ in range(times):
            now += 5
            assert policy.step(now, look, may_act=False) == []
    assert policy.budgets(now) == {}


@settings(max_examples=60, deadline=None)
@given(runs, st.booleans())
def test_no_server_that_embeds_users_texts_is_restarted(run: list[tuple[Look, int]], answers: bool) -> None:
    """While a worker's count grows from look to look nothing that is seen beside it costs the server, with management
    or without."""
    policy, now = Policy(lambda: 0.5), 0.0
    busy = Process(99, 9.0)
    for look, times in run:
        for _ in range(times):
            now += 5
            at_work = Activity(now, begun=now)
            listed = ModelLook("busy", "1.0", 1, (WorkerLook(busy, True, at_work),), 60, 300)
            seen = (
                replace(look, answers=True, models=(*look.models, listed))
                if answers
                else replace(look, answers=False, models=(), found={**look.found, busy.key: at_work})
            )
            assert "restart_torchserve" not in {one.kind for one in policy.step(now, seen)}


@settings(max_examples=60, deadline=None)
@given(looks)
def test_never_at_the_first_look(look: Look) -> None:
    """One failure is none."""
    assert Policy(lambda: 0.0).step(5, look) == []


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS).map(LIMITS.__getitem__),
    st.floats(0, 1),
    st.lists(st.floats(0, 400), min_size=1, max_size=300),
)
def test_a_pace_keeps_its_budget_and_never_gives_up(limits: Limits, spread: float, waits: list[float]) -> None:
    """After an action the next is due within the cap; without a budget not before three quarters of it."""
    pace, now, taken = Pace(limits, lambda: spread), 0.0, list[float]()
    for wait in waits:
        now += wait
        if taken:
            assert pace.due(max(now, taken[-1] + limits.cap_s))
            if len([at for at in taken if taken[-1] - at < WINDOW_S]) >= limits.budget:
                assert pace.due(now) is (now - taken[-1] >= limits.cap_s * (1 - spread / 4))
        if pace.due(now):
            pace.take(now)
            taken.append(now)
        assert pace.remaining(now) == max(0, limits.budget - len([at for at in taken if now - at < WINDOW_S]))
