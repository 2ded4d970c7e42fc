"""Gangs wait for room as a whole, say why, and keep off suspect nodes as long as they fit elsewhere."""

import pytest

from platformops.clock import ManualClock
from platformops.errors import ClusterError
from platformops.on_ray.gang_places import PATIENCE_S, gang, off_limits, wait_for_room
from platformops.scheduler.records import NodeView

CLOSED = NodeView("a", {"CPU": 8.0}, takes_work=False, why_not="closed by node health")
SUSPECT = NodeView("b", {"CPU": 4.0}, is_suspect=True)
SOUND = NodeView("c", {"CPU": 2.0})
NODES = (CLOSED, SUSPECT, SOUND)


def job(num_workers):
    return gang("digits", {"CPU": 1.0}, num_workers)


def test_a_gang_that_fits_on_sound_nodes_keeps_off_the_others():
    assert off_limits(job(2), NODES) == ("a", "b")


def test_a_suspect_node_is_taken_for_want_of_better_and_a_closed_one_never():
    assert off_limits(job(3), NODES) == ("a",)
    assert off_limits(job(99), NODES) == ("a",)


def test_a_gang_waits_for_all_of_its_room_and_tells_once_why():
    clock, said = ManualClock(0.0), []

    def views():
        return NODES if clock.monotonic() > 20.0 else (CLOSED,)

    wait_for_room(job(6), views, clock, lambda _, words: said.append(words))
    assert 20.0 < clock.monotonic() < 25.0
    assert len(said) == 1
    assert "room for 0 of 6" in said[0]
    assert "closed by node health" in said[0]


def test_a_gang_that_never_fits_is_given_up_with_the_reason():
    clock = ManualClock(0.0)
    with pytest.raises(ClusterError, match="room for 2 of 3"):
        wait_for_room(job(3), lambda: (SOUND,), clock, lambda *_: None)
    assert clock.monotonic() >= PATIENCE_S
