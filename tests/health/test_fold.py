"""The fold of observations into a node's state: hysteresis, flaps, probation, and every pair of the table."""

import itertools

import pytest

from platformops.errors import InvalidTransition
from platformops.health.fold import CALM_S, FLAP_HALF_LIFE_S, PROBATION_S, Condition, Observation, fold
from platformops.health.states import NODE, NodeEvent, NodeState
from platformops.machine import advance

S = NodeState
SOUND = Observation(0.001, 0.1, has_passed_burn_in=True)
ILL = Observation(0.3, 0.1, why="errors 9")
DEAD = Observation(0.5, 0.1, is_dead=True)


def after(*story, start=None):
    condition = start or Condition()
    for now, seen in story:
        condition = fold(condition, seen, now).condition
    return condition


@pytest.mark.parametrize(("state", "event"), list(itertools.product(NodeState, NodeEvent)))
def test_each_pair_moves_as_the_table_says_or_is_refused(state, event):
    if (state, event) in NODE:
        assert advance(NODE, state, event, subject="n1") is NODE[state, event]
        return
    with pytest.raises(InvalidTransition, match="send one of"):
        advance(NODE, state, event, subject="n1")


def test_no_state_is_terminal_and_each_is_reached():
    assert set(NODE.values()) == {s for s, _ in NODE} == set(NodeState)


def test_a_node_becomes_suspect_at_half_of_what_acting_needs_and_says_why():
    folded = fold(Condition(), Observation(0.06, 0.1, why="errors 4"), 10.0)
    assert folded.condition.state is S.SUSPECT
    assert "6.0%" in folded.transition.reason
    assert "errors 4" in folded.transition.reason


def test_a_suspect_node_stays_so_between_the_two_thresholds():
    suspect = after((0.0, Observation(0.06, 0.1)))
    assert after((500.0, Observation(0.04, 0.1)), (900.0, Observation(0.04, 0.1)), start=suspect).state is S.SUSPECT


def test_calm_must_last_a_minute_without_a_break():
    suspect = after((0.0, Observation(0.06, 0.1)))
    restless = [(10.0, SOUND), (40.0, Observation(0.04, 0.1)), (50.0, SOUND), (50.0 + CALM_S - 1, SOUND)]
    assert after(*restless, start=suspect).state is S.SUSPECT
    assert after(*restless, (50.0 + CALM_S, SOUND), start=suspect).state is S.HEALTHY


def test_a_repaired_node_serves_a_probation_and_passes_only_with_its_burn_in():
    back = after((0.0, DEAD), (100.0, SOUND))
    assert back.state is S.PROBATION
    calm = (110.0, SOUND)
    not_tested = Observation(0.001, 0.1)
    assert after(calm, (100.0 + PROBATION_S + 1, not_tested), start=back).state is S.PROBATION
    assert after(calm, (100.0 + PROBATION_S - 1, SOUND), start=back).state is S.PROBATION
    assert after(calm, (100.0 + PROBATION_S + 1, SOUND), start=back).state is S.HEALTHY


def test_a_node_that_flaps_is_not_believed_until_it_has_been_quiet():
    condition, now = Condition(), 0.0
    for _ in range(2):
        condition = after((now, Observation(0.06, 0.1)), (now + 1, SOUND), (now + 62, SOUND), start=condition)
        now += 70.0
    assert condition.is_suppressed
    suspect = after((now, Observation(0.06, 0.1)), (now + 1, SOUND), (now + 200, SOUND), start=condition)
    assert suspect.state is S.SUSPECT
    quiet = after((now + 200 + 4 * FLAP_HALF_LIFE_S, SOUND), start=suspect)
    assert quiet.state is S.HEALTHY


def test_damping_never_delays_bad_news():
    flapping = Condition(penalty=9.0, penalty_at=0.0, is_suppressed=True)
    assert after((1.0, ILL), start=flapping).state is S.UNHEALTHY
    assert after((1.0, DEAD), start=flapping).state is S.DEAD


def test_a_third_return_within_a_day_is_barred_until_a_person_pardons():
    condition = Condition()
    for hour in (0.0, 3600.0):
        condition = after((hour, DEAD), (hour + 600.0, SOUND), start=condition)
        assert condition.state is S.PROBATION
    condition = after((7200.0, DEAD), (9000.0, SOUND), start=condition)
    assert condition.state is S.BARRED
    assert after((10_000.0, SOUND), (11_000.0, DEAD), start=condition).state is S.BARRED
    assert after((10_000.0, Observation(0.001, 0.1, is_pardoned=True)), start=condition).state is S.PROBATION


def test_returns_on_different_days_are_not_held_against_a_node():
    condition = Condition()
    for day in range(5):
        condition = after((day * 90_000.0, DEAD), (day * 90_000.0 + 600.0, SOUND), start=condition)
        assert condition.state is S.PROBATION


def test_the_same_story_gives_the_same_states():
    story = [(float(t), ILL if t % 7 < 2 else SOUND) for t in range(0, 3000, 13)]
    assert after(*story) == after(*story)


def test_nothing_new_leaves_the_condition_as_it_is():
    assert fold(Condition(), Observation(0.04, 0.1), 5.0).condition == Condition()


def test_a_node_that_is_held_becomes_suspect_and_is_condemned_once_it_is_not():
    held = Observation(0.3, 0.1, held="3 of 5 nodes look ill at once")
    folded = fold(Condition(), held, 10.0)
    assert folded.condition.state is S.SUSPECT
    assert folded.transition.reason == held.held
    assert after((11.0, held), start=folded.condition).state is S.SUSPECT
    assert after((12.0, ILL), start=folded.condition).state is S.UNHEALTHY
