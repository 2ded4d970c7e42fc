"""Every fault that the keeper sees, and what it does about it, with a clock that is an argument."""

from dataclasses import replace
from itertools import pairwise

import pytest

from platformops.keeper.decide import (
    MOST_GCS_RESTARTS,
    MOST_RESTARTS,
    MOST_RESUMED,
    RESUME_PAUSE_S,
    STOPPED_S,
    WINDOW_S,
    decide,
    pause_s,
)
from platformops.keeper.records import GiveUp, Kill, Left, Memory, RestartHead, Resume, Sighting, StartGcs

WELL = Sighting(True, has_gcs=True, has_raylet=True, can_start_gcs=True)
NO_GCS = replace(WELL, has_gcs=False)
DARK = replace(WELL, has_gcs=False, has_raylet=False)


def kinds(decided):
    return [type(act) for act in decided.acts]


def test_a_cluster_that_is_well_is_left_alone():
    assert decide(WELL, Memory(), 0.0).acts == ()


def test_a_cluster_that_is_wanted_no_more_ends_the_keeper_whatever_is_dead():
    decided = decide(replace(DARK, is_wanted=False), Memory(), 0.0)
    assert decided.is_over
    assert decided.acts == ()


def test_a_dead_gcs_is_started_alone():
    decided = decide(NO_GCS, Memory(), 0.0)
    assert kinds(decided) == [StartGcs]
    assert decided.acts[0].reason


@pytest.mark.parametrize(
    "seen", [DARK, replace(WELL, has_raylet=False), replace(NO_GCS, can_start_gcs=False)], ids=["both", "raylet", "how"]
)
def test_what_cannot_be_repaired_alone_starts_the_head_anew(seen):
    assert kinds(decide(seen, Memory(), 0.0)) == [RestartHead]


def test_a_gcs_that_dies_again_and_again_starts_the_head_anew():
    memory, done = Memory(), []
    for second in range(0, 500, 100):
        decided = decide(NO_GCS, memory, float(second))
        memory, done = decided.memory, [*done, *kinds(decided)]
    assert done == [*[StartGcs] * MOST_GCS_RESTARTS, RestartHead, RestartHead]


def test_restarts_rest_longer_each_time_and_end_with_one_word_that_says_so():
    memory, now, at, gave_up = Memory(), 0.0, [], []
    while now < WINDOW_S - 1:
        decided = decide(DARK, memory, now)
        memory = decided.memory
        at += [now for act in decided.acts if isinstance(act, RestartHead)]
        gave_up += [act for act in decided.acts if isinstance(act, GiveUp)]
        now += 0.5
    pauses = [later - earlier for earlier, later in pairwise(at)]
    assert len(at) == MOST_RESTARTS
    assert pauses == sorted(pauses)
    assert len(gave_up) == 1


def test_the_window_forgets_so_that_a_cluster_may_die_again_next_week():
    memory = Memory(restarts=tuple(float(n) for n in range(MOST_RESTARTS)))
    assert kinds(decide(DARK, memory, WINDOW_S + MOST_RESTARTS)) == [RestartHead]


def test_no_pause_is_negative_or_longer_than_a_minute():
    assert [pause_s(n) for n in (0, 1, 2, 3)] == [0.0, 0.0, 2.0, 4.0]
    assert pause_s(50) == 60.0


def test_a_process_held_still_is_killed_after_its_grace_and_one_that_moves_again_is_not():
    held = replace(WELL, stopped={7: "ray::Replica"})
    first = decide(held, Memory(), 10.0)
    assert first.acts == ()
    assert decide(held, first.memory, 10.0 + STOPPED_S - 0.1).acts == ()
    (act,) = decide(held, first.memory, 10.0 + STOPPED_S).acts
    assert (type(act), act.pid) == (Kill, 7)
    moved = decide(WELL, first.memory, 11.0)
    assert decide(held, moved.memory, 13.0).acts == ()


def test_a_dead_server_comes_before_everything_else():
    seen = replace(DARK, stopped={7: "x"}, left=(Left("a", "up", 0, 0.0),))
    assert kinds(decide(seen, Memory(stopped_since={7: -99.0}), 0.0)) == [RestartHead]


def test_work_left_behind_is_resumed_with_growing_pauses_and_not_for_ever():
    def resumed(left, now):
        return kinds(decide(replace(WELL, left=(left,)), Memory(), now)) == [Resume]

    assert resumed(Left("a", "up", 0, 0.0), 0.0)
    assert not resumed(Left("a", "up", 2, 100.0), 100.0 + 2 * RESUME_PAUSE_S - 1)
    assert resumed(Left("a", "up", 2, 100.0), 100.0 + 2 * RESUME_PAUSE_S)
    assert not resumed(Left("a", "up", MOST_RESUMED, 0.0), 1e9)
