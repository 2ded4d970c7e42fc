"""Gangs wait for room as a whole, say why, and keep off suspect nodes as long as they fit elsewhere."""

import pytest

from platformops.clock import ManualClock
from platformops.errors import ClusterError
from platformops.on_ray.gang_places import PATIENCE_S, gang, off_limits, wait_for_room
from platformops.scheduler.records import NodeView, Running, Team

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


class FakeLine:
    """Who else waits, and what runs; what was told of this one."""

    def __init__(self, others=(), running=(), quotas=()):
        self.jobs, self.uses, self.told, self.has_left = list(others), list(running), [], False
        self.quotas = {team.name: team for team in quotas}

    def tell(self, job, reason):
        self.told.append(reason)

    def leave(self, job):
        self.has_left = True

    def others(self, job):
        return self.jobs

    def start(self, job):
        self.started = job.name

    def running(self, job):
        return self.uses

    def teams(self):
        return self.quotas


def test_a_gang_waits_for_all_of_its_room_and_tells_once_why():
    clock, said = ManualClock(0.0), []

    def views():
        return NODES if clock.monotonic() > 20.0 else (CLOSED,)

    line = FakeLine()
    wait_for_room(job(6), views, line, clock, lambda _, words: said.append(words))
    assert line.has_left
    assert set(line.told) == {said[0].removeprefix("waits for room: ")}
    assert 20.0 < clock.monotonic() < 25.0
    assert len(said) == 1
    assert "room for 0 of 6" in said[0]
    assert "closed by node health" in said[0]


def test_a_gang_that_never_fits_is_given_up_with_the_reason():
    clock = ManualClock(0.0)
    with pytest.raises(ClusterError, match="room for 2 of 3"):
        wait_for_room(job(3), lambda: (SOUND,), FakeLine(), clock, lambda *_: None)
    assert clock.monotonic() >= PATIENCE_S


def asked_for(name, *, team="", at=0.0):
    return gang(name, {"CPU": 1.0}, 2, team=team, now=at)


def test_who_came_first_goes_first_and_the_other_says_why_it_waits():
    first, second = asked_for("first", at=1.0), asked_for("second", at=2.0)
    clock, line = ManualClock(10.0), FakeLine([first])

    def views():
        if clock.monotonic() > 300.0:  # the first has ended meanwhile
            line.jobs.clear()
        return (SOUND,)

    wait_for_room(second, views, line, clock, lambda *_: None)
    assert clock.monotonic() > 300.0, "longer than a gang is patient that waits for nothing"
    assert "room for 0 of 2" in line.told[0]
    wait_for_room(first, lambda: (SOUND,), FakeLine([second]), ManualClock(10.0), lambda *_: None)


def test_a_team_that_uses_less_of_the_cluster_goes_first_and_a_long_wait_goes_before_that():
    early, late = asked_for("early", team="ada", at=1.0), asked_for("late", team="bob", at=2.0)
    running = [Running("ada", {"CPU": 4.0})]
    clock = ManualClock(10.0)
    wait_for_room(late, lambda: (SOUND,), FakeLine([early], running), clock, lambda *_: None)
    assert clock.monotonic() == 10.0
    clock = ManualClock(1_900.0)
    recent = asked_for("late", team="bob", at=1_800.0)
    wait_for_room(early, lambda: (SOUND,), FakeLine([recent], running), clock, lambda *_: None)
    assert clock.monotonic() == 1_900.0


def test_a_gang_waits_for_its_teams_quota_while_there_is_room_and_a_larger_share_goes_first():
    clock, ada = ManualClock(10.0), asked_for("late", team="ada", at=2.0)
    line = FakeLine(running=[Running("ada", {"CPU": 3.0})], quotas=[Team("ada", quota={"CPU": 4.0})])

    def views():
        if clock.monotonic() > 60.0:
            line.uses.clear()
        return (SOUND,)

    wait_for_room(ada, views, line, clock, lambda *_: None)
    assert clock.monotonic() > 60.0
    assert line.told[0] == "quota of ada: 5 CPU of 4 with this job"
    running = [Running("ada", {"CPU": 2.0}), Running("bob", {"CPU": 1.0})]
    quotas = [Team("ada", share=4.0), Team("bob")]
    bob = asked_for("early", team="bob", at=1.0)
    clock = ManualClock(10.0)
    wait_for_room(ada, lambda: (SOUND,), FakeLine([bob], running, quotas), clock, lambda *_: None)
    assert clock.monotonic() == 10.0


def test_a_gang_that_is_larger_than_its_teams_quota_is_refused_at_once_and_told_what_to_type():
    clock, line = ManualClock(10.0), FakeLine([asked_for("other")], quotas=[Team("ada", quota={"CPU": 1.0})])
    with pytest.raises(ClusterError, match="2 CPU of 1") as refused:
        wait_for_room(asked_for("large", team="ada"), lambda: (SOUND,), line, clock, lambda *_: None)
    assert clock.monotonic() == 10.0
    assert "platformops quota ada" in refused.value.remedy


def test_a_gang_is_among_those_that_run_before_it_leaves_the_line():
    line = FakeLine()

    def leave(job):
        assert line.started == job.name
        line.has_left = True

    line.leave = leave
    wait_for_room(asked_for("first"), lambda: (SOUND,), line, ManualClock(10.0), lambda *_: None)
    assert line.has_left
