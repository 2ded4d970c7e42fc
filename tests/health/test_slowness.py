"""Who is slow: by what is kept from a node, never by what its programs take; against its peers, or not at all."""

import pytest

from platformops.health.remedy import Prices, Remedy, Suspicion, Workload, acts_from, choose
from platformops.health.slowness import SLOW_FROM, Kind, drags, is_pressed, withheld_ratio
from platformops.health.vitals import CPU_BUSY, CPU_GRANTED, CPU_STALL, CPU_STEAL, CPU_THROTTLED, GPU_THROTTLED

SOUND = {CPU_BUSY: 0.3, CPU_STEAL: 0.0}
THROTTLED = {**SOUND, CPU_THROTTLED: 1.0, CPU_GRANTED: 0.05}
IDLE = Workload()
QUIET = dict.fromkeys("abcd", 0.001)


def answers(**changed):
    return {(Kind.SERVER, ""): {**QUIET, **changed}}


def calls(revisions):
    return answers() | {(Kind.CALLS, name): of_nodes for name, of_nodes in revisions.items()}


def steps(**of_nodes):
    return answers() | {(Kind.STEPS, "train/digits"): of_nodes}


@pytest.mark.parametrize(
    ("readings", "cpus", "expected"),
    [
        (SOUND, 4.0, 0.0),
        ({}, 4.0, 0.0),
        ({CPU_BUSY: 1.0, CPU_STEAL: 0.0}, 4.0, 0.0),
        ({CPU_BUSY: 0.25, CPU_STEAL: 0.75}, 4.0, 0.75),
        (THROTTLED, 1.0, 0.95),
        ({**THROTTLED, CPU_THROTTLED: 0.0}, 1.0, 0.0),
        ({**THROTTLED, CPU_GRANTED: 4.0}, 4.0, 0.0),
        (THROTTLED, 0.0, 0.0),
        ({**SOUND, GPU_THROTTLED: 1.0}, 4.0, 0.5),
    ],
    ids=[
        "sound",
        "unknown",
        "busy",
        "stolen",
        "throttled",
        "idle below its quota",
        "hog in its own quota",
        "no cpus",
        "hot GPUs",
    ],
)
def test_withheld_is_what_others_keep_from_the_node(readings, cpus, expected):
    assert withheld_ratio(readings, cpus) == pytest.approx(expected)


def test_a_node_that_gets_less_than_its_peers_is_slow_by_that_much():
    found = drags({"a": 0.0, "b": 0.95, "c": 0.0}, answers())
    assert list(found) == ["b"]
    assert found["b"][0] == pytest.approx(0.95)
    assert "gets 5% of its processors" in found["b"][1]
    assert list(drags({"a": 0.0, "b": 0.95}, answers())) == ["b"]


def test_what_all_suffer_makes_nobody_slow_and_a_lone_node_has_no_better_place():
    assert drags(dict.fromkeys("abcd", 0.9), answers()) == {}
    assert drags({"a": 0.95}, answers()) == {}
    assert drags({"a": SLOW_FROM - 0.01, "b": 0.0}, answers()) == {}


def test_a_server_that_answers_ten_times_later_than_its_peers_is_slow_only_where_that_is_long():
    none = dict.fromkeys("abcd", 0.0)
    assert list(drags(none, answers(b=0.5))) == ["b"]
    assert drags(none, answers(b=0.05)) == {}
    assert drags(none, answers(**dict.fromkeys("abcd", 0.5))) == {}


def test_replicas_that_are_far_later_than_those_of_the_same_revision_elsewhere_make_a_node_slow():
    none = dict.fromkeys("abcd", 0.0)
    found = drags(none, calls({"digits-r1": {"a": 0.01, "b": 0.3, "c": 0.01}}))
    assert list(found) == ["b"]
    assert found["b"][0] == pytest.approx(1.0 - 0.01 / 0.3)
    assert found["b"][1] == "calls of digits-r1 take 0.3 s, on its peers 0.01 s"


def test_a_revision_that_is_late_everywhere_or_nowhere_else_makes_no_node_slow():
    none = dict.fromkeys("abcd", 0.0)
    assert drags(none, calls({"digits-r2": dict.fromkeys("abc", 0.3), "digits-r1": {"a": 0.01, "b": 0.01}})) == {}
    assert drags(none, calls({"digits-r2": {"a": 9.0}})) == {}
    assert drags(none, calls({"digits-r1": {"a": 0.03, "b": 0.3, "c": 0.2}})) == {}


@pytest.mark.parametrize(
    ("readings", "expected"),
    [({CPU_STALL: 0.9}, True), ({CPU_STALL: 0.2, CPU_BUSY: 1.0}, False), ({CPU_BUSY: 0.95}, True), ({}, False)],
)
def test_processors_are_wanted_by_what_the_kernel_says(readings, expected):
    assert is_pressed(readings) is expected


def remedy(drag_ratio, slow_for_s, work=IDLE, **prices):
    suspicion = Suspicion(0.0, drag_ratio=drag_ratio, slow_for_s=slow_for_s)
    return choose(suspicion, work, Prices(**{"node_slots": 4, "free_slots": 4, **prices})).remedy


def test_a_slow_node_is_weighed_down_at_once_and_cordoned_when_it_stays_so():
    assert [remedy(0.9, s) for s in (0.0, 1.0, 600.0)] == [Remedy.WAIT, Remedy.WEIGH_DOWN, Remedy.WEIGH_DOWN]
    assert remedy(0.9, 3600.0) is Remedy.CORDON


def test_what_trains_there_is_moved_once_it_has_lost_as_much_as_a_move_costs():
    gang = Workload(slots=4, unsaved_s=10.0, checkpoint_s=1.0, move_s=5.0, has_spare=True)
    assert remedy(0.9, 120.0, gang, free_slots=1) is Remedy.WEIGH_DOWN
    assert remedy(0.9, 600.0, gang, free_slots=1) in (Remedy.MOVE, Remedy.DRAIN)


def test_without_another_node_nothing_is_weighed_down_and_a_sound_node_never_is():
    assert remedy(0.9, 60.0, has_others=False) is Remedy.WAIT
    choice = choose(Suspicion(0.06), Workload(), Prices(node_slots=4, free_slots=4))
    assert choice.excluded[Remedy.WEIGH_DOWN] == "it is not slow"
    assert acts_from(Workload(), Prices(node_slots=4, free_slots=4)) == pytest.approx(0.1)


def test_a_node_whose_rank_needs_half_as_long_again_for_its_part_of_a_step_is_slow_by_that_much():
    none = dict.fromkeys("abcd", 0.0)
    found = drags(none, steps(a=0.2, b=0.2, c=0.5))
    assert list(found) == ["c"]
    assert found["c"] == (pytest.approx(0.6), "its part of a step of train/digits takes 0.5 s, elsewhere 0.2 s")
    assert list(drags(none, steps(a=0.2, b=0.31))) == ["b"]


def test_steps_that_differ_as_those_of_equal_machines_do_or_last_no_time_make_nobody_slow():
    none = dict.fromkeys("abcd", 0.0)
    assert drags(none, steps(a=0.2, b=0.28, c=0.21)) == {}
    assert drags(none, steps(a=0.001, b=0.004)) == {}
    assert drags(none, steps(b=9.0)) == {}
