"""The drift loop: one retraining at a time, bounded, and only what is shown to be better is released."""

import itertools

import numpy as np
import pytest

from platformops.delivery import drift_loop
from platformops.delivery.drift_loop import LOOP, DriftLoop, LoopEvent, LoopPolicy, LoopState, Verdict
from platformops.errors import InvalidTransition
from platformops.machine import advance

POLICY = LoopPolicy(cooldown_s=100.0, most_a_day=3, most_failures=2, patience_s=1000.0)
BETTER, NOT = Verdict(True, "better"), Verdict(False, "no better")


def begun(loop=DriftLoop("digits"), now=0.0):  # noqa: B008  frozen
    return drift_loop.confirmed(loop, "error has changed", since=now, now=now, policy=POLICY).loop


def gating(loop=DriftLoop("digits"), now=0.0):  # noqa: B008  frozen
    return drift_loop.trained(drift_loop.chosen(begun(loop, now), "all rows", now), "digits:v2", now).loop


@pytest.fixture(autouse=True)
def chained(monkeypatch):
    """Steps are taken from loops or from steps."""
    for name in ("chosen", "trained", "judged", "released", "looked"):
        function = getattr(drift_loop, name)
        monkeypatch.setattr(
            drift_loop, name, lambda at, *rest, function=function: function(getattr(at, "loop", at), *rest)
        )


def test_a_better_model_is_released_and_the_loop_cools_down():
    step = drift_loop.judged(gating(), BETTER, 10.0, POLICY)
    assert step.loop.state is LoopState.RELEASING
    done = drift_loop.released(step, "digits:v2", 20.0).loop
    assert (done.state, done.failures) == (LoopState.COOLING, 0)
    assert drift_loop.looked(done, 119.0, POLICY).loop.state is LoopState.COOLING
    assert drift_loop.looked(done, 120.0, POLICY).loop.state is LoopState.WATCHING


def test_a_model_that_is_no_better_leaves_the_champion():
    loop = drift_loop.judged(gating(), NOT, 10.0, POLICY).loop
    assert loop.state is LoopState.COOLING
    assert loop.reason == "the champion stays: no better"


def test_failures_in_a_row_open_the_breaker_until_a_person_closes_it():
    loop = drift_loop.judged(gating(), NOT, 10.0, POLICY).loop
    loop = drift_loop.looked(loop, 200.0, POLICY).loop
    loop = drift_loop.judged(gating(loop, 200.0), NOT, 210.0, POLICY).loop
    assert loop.state is LoopState.PAUSED
    assert "2 retrainings in a row" in loop.reason
    assert begun(loop, 300.0).state is LoopState.PAUSED
    assert drift_loop.resumed(loop, "ada", 400.0).loop.failures == 0


def test_a_drift_during_a_retraining_starts_no_second_one_and_is_not_forgotten():
    step = drift_loop.confirmed(gating(), "another", since=5.0, now=6.0, policy=POLICY)
    assert not step.has_moved
    assert "gating" in step.loop.reason
    done = drift_loop.released(drift_loop.judged(step, BETTER, 10.0, POLICY), "digits:v2", 20.0)
    again = drift_loop.looked(done, 120.0, POLICY).loop
    assert (again.state, again.cause, again.since, again.pending) == (LoopState.CHOOSING, "another", 5.0, "")


def test_retrainings_a_day_are_bounded_and_what_waits_goes_on_waiting():
    policy, loop = LoopPolicy(cooldown_s=1.0, most_a_day=2, most_failures=9), DriftLoop("digits")
    for now in (0.0, 100.0):
        loop = drift_loop.confirmed(loop, "x", since=now, now=now, policy=policy).loop
        loop = drift_loop.failed(loop, "no", now + 1, policy).loop
        loop = drift_loop.looked(loop, now + 50, policy).loop
    refused = drift_loop.confirmed(loop, "x", since=200.0, now=200.0, policy=policy)
    assert not refused.has_moved
    assert "2 of 2 retrainings a day" in refused.loop.reason
    assert drift_loop.confirmed(loop, "x", since=0.0, now=90_000.0, policy=policy).has_moved


def test_labels_that_never_come_end_the_waiting():
    assert drift_loop.looked(begun(), 999.0, POLICY).loop.state is LoopState.CHOOSING
    assert "too few labels" in drift_loop.looked(begun(), 1000.0, POLICY).loop.reason


def test_a_person_may_pause_at_any_time_but_while_traffic_moves():
    assert drift_loop.paused(DriftLoop("digits"), "ada", 1.0).loop.state is LoopState.PAUSED
    given_up = drift_loop.paused(gating(), "ada", 1.0).loop
    assert (given_up.state, given_up.reason) == (LoopState.PAUSED, "paused by ada; retraining 1 is given up")
    with pytest.raises(InvalidTransition):
        drift_loop.paused(drift_loop.judged(gating(), BETTER, 1.0, POLICY).loop, "ada", 2.0)


def test_every_pair_moves_as_the_table_says_or_is_refused():
    for state, event in itertools.product(LoopState, LoopEvent):
        if (state, event) in LOOP:
            assert advance(LOOP, state, event, subject="x") is LOOP[state, event]
        else:
            with pytest.raises(InvalidTransition):
                advance(LOOP, state, event, subject="x")


def test_equal_models_seldom_pass_and_better_ones_do():
    luck = np.random.default_rng(1)
    passed = sum(
        drift_loop.compared(list(luck.normal(size=200)), list(luck.normal(size=200))).is_better for _ in range(300)
    )
    assert passed <= 9
    assert drift_loop.compared([1.0, 1.2] * 50, [0.5, 0.6] * 50).is_better
    assert "too few" in drift_loop.compared([1.0] * 10, [0.0] * 10).reason
