"""Versions that go bad after their promotion, under the real controller, with a clock that jumps."""

import functools
import json

import numpy as np
import pytest

from benchmarks.release_traffic import Profile, Traffic
from platformops import controller
from platformops.delivery import orders
from platformops.delivery.decisions import explain
from platformops.delivery.evidence import Tallies, Tally
from platformops.delivery.records import RolloutKind, RolloutState
from platformops.delivery.systems import newest_rollout, stop_system
from platformops.delivery.terms import Terms
from platformops.delivery.watch_documents import watch_from, watch_json
from platformops.delivery.watching import WEIGHTS, added, begun, found
from platformops.errors import StoreError
from platformops.registry.registry import aliases, get_verdicts
from tests.simulation.world import World, check_settled

WATCHED = {"steps": ("shadow", "10%", "100%"), "min_bake": "5s", "watch": "2h", "keep_warm": "2h"}
S = RolloutState


def promoted(rate=50.0, *, versions=2, **release):
    """A system whose last version was just promoted under guard."""
    world = World(traffic=Traffic(rate, {}, np.random.default_rng(0)), release={**WATCHED, **release})
    for number in range(1, versions + 1):
        world.release(number)
        while world.system.stable is None or world.system.stable.version != number:
            world.turn()
    return world


def skip(world, seconds):
    """Time passes with the controller looking every minute only, which is what makes an hour cheap."""
    for _ in range(int(seconds // 60)):
        world.clock.sleep(59.5)
        world.cluster.traffic.advance(59.5, world.cluster.routes.get("img"))
        world.turn()


def rollout_of(world):
    return newest_rollout(world.store, "img")[0]


def until_back(world, limit_s=60):
    began = world.clock.now()
    while rollout_of(world).kind is not RolloutKind.ROLLBACK or rollout_of(world).state is not S.PROMOTED:
        assert world.clock.now() - began < limit_s, rollout_of(world)
        world.turn()
    return world.clock.now() - began


def turn_bad(world, name="img-r2", **profile):
    world.cluster.traffic.profiles[name] = Profile(**profile)


def test_a_version_that_goes_bad_an_hour_later_is_sent_back_within_ten_seconds_to_one_that_is_still_warm():
    world = promoted()
    warm_since = world.cluster.deployed["img-r1"]
    skip(world, 3600)
    assert rollout_of(world).number == 2
    turn_bad(world, errors=0.2)
    assert until_back(world) <= 10
    assert world.cluster.deployed["img-r1"] == warm_since
    assert world.cluster.routes["img"].weights == {"img-r1": 100.0}
    assert any("img:v2 went bad after its promotion" in d.reason for d in explain(world.store, "img"))
    world.run(20)
    assert get_verdicts(world.store, "img", 2).refused_by == ("errors",)
    assert not get_verdicts(world.store, "img", 1).refused_by
    assert aliases(world.store, "img")["champion"].number == 1
    check_settled(world)


def test_memory_that_begins_to_grow_after_promotion_sends_a_version_back():
    world = promoted()
    world.run(60)
    turn_bad(world, leak_bytes_per_request=200_000.0)
    until_back(world, limit_s=600)
    assert [g.name for g in rollout_of(world).gates if not g.passed] == ["memory"]


def test_where_the_spec_wants_an_alarm_it_is_raised_once_and_nothing_moves():
    world = promoted(on_degrade="alarm")
    turn_bad(world, errors=0.3)
    world.run(60)
    told = [d for d in explain(world.store, "img") if d.decision == "raised an alarm"]
    assert len(told) == 1
    assert "release.on_degrade is alarm" in told[0].reason
    (system,) = world.store.get(controller.STATUS).value["systems"]
    assert "went bad" in system["reason"]
    assert rollout_of(world).number == 2


def test_a_first_version_has_nothing_to_go_back_to_so_an_alarm_is_raised():
    world = promoted(versions=1)
    turn_bad(world, "img-r1", errors=0.3)
    world.run(60)
    assert "no earlier version" in explain(world.store, "img")[0].reason
    assert world.system.stable.name == "img-r1"


def test_what_a_watch_went_back_to_is_not_sent_back_in_its_turn():
    """Two versions that suffer from one cause would send each other back for ever."""
    world = promoted(versions=3)
    for name in ("img-r1", "img-r2", "img-r3"):
        turn_bad(world, name, errors=0.3)
    until_back(world)
    world.run(300)
    assert world.system.stable.name == "img-r2"
    assert rollout_of(world).number == 4


def test_after_the_watch_nobody_is_sent_back():
    world = promoted(watch="1m")
    world.run(70)
    turn_bad(world, errors=0.5)
    world.run(120)
    assert rollout_of(world).number == 2


def test_a_refused_release_does_not_end_the_watch_over_the_stable_version():
    world = promoted()
    world.cluster.script.weak.add("img-r3")
    world.release(3)
    while rollout_of(world).state is not S.REFUSED:
        world.turn()
    turn_bad(world, errors=0.3)
    assert until_back(world) <= 10
    assert rollout_of(world).number == 4
    assert world.system.stable.name == "img-r1"


def test_while_the_next_release_runs_its_guards_watch():
    world = promoted()
    world.release(3)
    world.run(10)
    turn_bad(world, errors=0.3)
    world.run(20)
    assert rollout_of(world).number == 3


def test_an_ordinary_version_is_left_alone_through_its_whole_watch():
    for seed in range(2):
        world = World(traffic=Traffic(50.0, {}, np.random.default_rng(seed)), release=WATCHED)
        for number in (1, 2):
            world.release(number)
            while world.system.stable is None or world.system.stable.version != number:
                world.turn()
        skip(world, 7200)
        assert rollout_of(world).number == 2


def test_a_system_that_is_stopped_while_it_is_watched_comes_back_when_asked():
    world = promoted()
    stop_system(world.store, "img", now=world.clock.now())
    world.run(5)
    assert world.cluster.deployed == {}
    world.release(2)
    world.run(20)
    assert world.cluster.answers("img")
    assert set(world.cluster.deployed) == {"img-r2"}


def test_a_power_cut_while_it_is_watched_is_no_harm():
    world = promoted()
    world.cluster.forget_processes()
    world.epoch = None
    world.run(60)
    assert world.cluster.answers("img")
    assert rollout_of(world).number == 2


def test_a_controller_that_dies_goes_on_with_the_watch():
    world = promoted()
    world.run(30)
    world.epoch = None
    turn_bad(world, errors=0.2)
    assert until_back(world) <= 10


def test_a_person_who_rolls_back_meanwhile_is_not_overruled():
    world = promoted()
    orders.roll_back(world.store, "img", who="ada", now=world.clock.now())
    turn_bad(world, errors=0.5)
    world.run(60)
    assert (world.system.stable.name, rollout_of(world).number) == ("img-r1", 3)


@functools.cache
def brought():
    return rollout_of(promoted(rate=0.0, versions=1))


class Days:
    """A watch over counts that are given."""

    def __init__(self, terms=Terms()):  # noqa: B008
        self.terms, self.now, self.counted = terms, 0.0, {}
        self.watch = begun(brought(), None, [], 0.0)

    def count(self, node="n1", **counts):
        before = self.counted.get(node, Tally())
        names = ("requests", "failures")
        self.counted[node] = Tally(**{n: getattr(before, n) + counts.get(n, 0) for n in names})

    def look(self, seconds=1.0):
        self.now += seconds
        self.watch = added(self.watch, [Tallies("gw", {"img-r1": dict(self.counted)})], self.terms, self.now)
        return found(self.watch, self.terms)


def test_the_guards_of_a_watch_share_one_error_probability():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


def test_hours_of_good_answers_do_not_hide_harm_that_begins():
    days = Days()
    for _ in range(600):
        days.count(requests=1000, failures=5)
        assert days.look(10.0) is None
    for _ in range(5):
        days.count(requests=20, failures=6)
        harm = days.look()
    assert harm.result.name == "errors"


def test_failures_at_the_limit_are_rarely_taken_for_harm():
    alarms = 0
    for seed in range(60):
        luck, days = np.random.default_rng(seed), Days()
        limit = days.watch.limits["errors"]
        for _ in range(200):
            days.count(requests=200, failures=int(luck.binomial(200, limit)))
            if days.look(30.0):
                alarms += 1
                break
    assert alarms <= 4


def test_failures_on_one_of_several_nodes_are_no_verdict_on_the_model():
    days = Days()
    for _ in range(30):
        days.count("n1", requests=50, failures=0)
        days.count("n2", requests=50, failures=25)
        harm = days.look()
    assert harm.node == "n2"
    days.count("n1", requests=50, failures=25)
    assert days.look().node == ""


def test_a_watch_survives_as_a_document():
    days = Days()
    days.count(requests=50, failures=1)
    days.look()
    stored = json.loads(json.dumps(watch_json(days.watch)))
    assert watch_from(stored) == days.watch
    with pytest.raises(StoreError, match="cannot be read"):
        watch_from({**stored, "totals": 3})
