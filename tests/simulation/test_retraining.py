"""From answers that go wrong to a promoted model, with workers and controllers that are killed on the way."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from platformops.clock import ManualClock
from platformops.delivery import retraining
from platformops.delivery.decisions import explain
from platformops.delivery.documents import rollout_json, system_json
from platformops.delivery.drift_loop import LoopState
from platformops.delivery.records import Revision, Rollout, RolloutState, System
from platformops.delivery.retraining import Outcome, Phase, Recipe, load_loop, outcome_put, recipe_puts
from platformops.delivery.systems import rollout_key, system_key
from platformops.errors import InvalidTransition, LeaseLost, UserError
from platformops.retraining import RetrainingController
from platformops.store.memory import MemoryStore
from platformops.store.records import Put

EVERY_S = 60.0
"""Between two answers."""
A_TURN = 10
"""Answers between two turns of the crank."""
STEADY = 260
RECIPE = Recipe("img", "/specs/img.yaml", retrain=True, cooldown_s=36_000.0)
ALL_PHASES = [Phase.CHOOSE, Phase.TRAIN, Phase.COMPARE, Phase.RELEASE]


@dataclass
class World:
    """One live system that answers, is told the truth after a while, and drifts; and whoever carries out orders."""

    recipe: Recipe = RECIPE
    release_ends: RolloutState = RolloutState.PROMOTED
    failing: dict[Phase, str] = field(default_factory=dict)
    is_better: bool = True
    deaf: int = 0
    """So many first calls of each order are of workers that die."""
    truths: bool = True
    calls: list = field(default_factory=list)
    pictures: bool = True
    wrong: float = 0.02
    dark: float = 0.0

    def __post_init__(self):
        self.clock, self.store, self.luck = ManualClock(), MemoryStore(), np.random.default_rng(3)
        self.stable = Revision("img", 1, 1, "a", "d", 1, 1)
        self.count = 0
        self.store.commit([*recipe_puts(self.recipe), self._system(None)])
        self.begin()

    def begin(self):
        """A controller that starts, also in place of one that was killed."""
        self.controller = RetrainingController(self.store, self, self.clock, "test")

    def work(self, order, recipe):
        assert recipe == self.recipe
        self.calls.append(order)
        if self.calls.count(order) <= self.deaf:
            return
        rollout = self._release() if order.phase is Phase.RELEASE and order.phase not in self.failing else 0
        outcome = Outcome(
            f"told by {order.phase.value}", self.failing.get(order.phase, ""), self.is_better,
            version=order.number + 1 if order.phase is Phase.TRAIN else 0, rollout=rollout,
        )  # fmt: skip
        self.store.commit([outcome_put(order, outcome)])

    def profiles(self, system, ids):
        if not self.pictures:
            return {id: () for id in ids}
        return {id: tuple(self.luck.normal(0.5 - self.dark, 0.1, 7)) for id in ids}

    def answer(self):
        """One answer; the truth of the answer of a minute ago comes back."""
        self.count += 1
        label = str(self.luck.integers(0, 3))
        self.store.commit([Put(f"sample/img/{self.count:05}", {
            "request_id": f"{self.count:05}", "at": self.clock.now(), "label": label, "truth": "", "truth_at": 0.0,
            "model_version": self.stable.version_name, "right": label if self.luck.random() > self.wrong else "9",
        }, None)])  # fmt: skip
        late = self.store.get(f"sample/img/{self.count - 5:05}")
        if late and self.truths:
            value = {**late.value, "truth": late.value["right"], "truth_at": self.clock.now()}
            self.store.commit([Put(late.key, value, None)])

    def run(self, answers, until=lambda loop: False):
        """So many answers, or until the loop is as wanted."""
        for _ in range(0, answers, A_TURN):
            for _ in range(A_TURN):
                self.answer()
                self.clock.sleep(EVERY_S)
            if self.turned(until):
                return

    def wait(self, seconds, until=lambda loop: False):
        """Nobody asks anything meanwhile."""
        for _ in range(0, int(seconds), 600):
            self.clock.sleep(600.0)
            if self.turned(until):
                return

    def turned(self, until):
        self.controller.turn()
        check_invariants(self)
        return until(self.loop)

    @property
    def loop(self):
        return load_loop(self.store, "img")[0]

    def states(self):
        return [d.decision.split(" (")[0].rsplit(" ", 1)[1] for d in reversed(explain(self.store, "img"))]

    def _release(self):
        self.stable = replace(self.stable, number=self.stable.number + 1, version=self.loop.version)
        ended = Rollout(
            "img", self.stable.number, self.stable, None, self.release_ends, 0, ("100%",), {}, (), "harm", 0.0, 0.0
        )
        self.wrong = 0.02 if self.release_ends is RolloutState.PROMOTED else self.wrong
        self.store.commit([self._system(None), Put(rollout_key(ended), rollout_json(ended), None)])
        return ended.number

    def _system(self, expect):
        return Put(system_key("img"), system_json(System("img", self.stable, None, {}, (), "up")), expect)


def check_invariants(world):
    """At every moment of every run."""
    policy, loop = world.recipe.policy, world.loop
    assert len(loop.started_at) <= policy.most_a_day
    assert loop.failures <= policy.most_failures
    numbers = [order.number for order in world.calls]
    assert numbers == sorted(numbers), "one retraining at a time"


def test_inputs_that_are_no_pictures_are_learnt_from_all_the_same():
    world = World(pictures=False)
    world.run(2 * STEADY)
    world.wrong = 0.6
    world.run(500, lambda loop: loop.state is LoopState.COOLING)
    assert [order.phase for order in world.calls] == ALL_PHASES


def test_what_was_not_kept_is_nothing_to_learn_from():
    world = World()
    world.profiles = lambda system, ids: {}
    world.run(2 * STEADY)
    world.wrong = 0.6
    world.run(500)
    assert world.loop.state is LoopState.CHOOSING
    assert world.calls == []


def test_evidence_is_written_down_at_each_look():
    world = World()
    world.run(2 * STEADY)
    calm = world.store.get("status/drift/img").value["evidence"]
    world.dark = 0.02
    world.run(100)
    seen = world.store.get("status/drift/img").value["evidence"]
    assert {"input", "prediction", "label", "error"} <= set(seen)
    assert seen["input"] > calm["input"]


def test_answers_that_go_wrong_end_in_a_promoted_model_and_the_loop_cools_down():
    world = World()
    world.run(2 * STEADY)
    assert (world.states(), world.calls) == ([], []), "nothing has changed"
    world.wrong, at = 0.6, world.clock.now()
    world.run(500, lambda loop: loop.state is LoopState.COOLING)
    assert [order.phase for order in world.calls] == ALL_PHASES
    assert world.states() == ["choosing", "choosing", "training", "gating", "releasing", "cooling"]
    assert world.loop.reason == "img:v2 has all traffic"
    assert "error of predictions" in world.loop.cause
    assert world.loop.since == pytest.approx(at, abs=3000)
    world.run(STEADY)
    world.wait(36_000)
    assert (world.loop.state, len(world.calls)) == (LoopState.WATCHING, 4), "a drift is answered once"


def test_pictures_that_change_are_found_before_any_truth_comes_back():
    world = World(truths=False)
    world.run(STEADY)
    world.dark = 0.3
    world.run(200, lambda loop: loop.state is LoopState.CHOOSING)
    assert "of pictures (input)" in world.loop.cause
    world.wait(90_000, lambda loop: loop.state is LoopState.COOLING)
    assert "too few labels came back" in world.loop.reason
    assert world.calls == []


def test_work_goes_on_where_it_was_when_workers_and_controllers_are_killed():
    world = World(deaf=2)
    world.run(STEADY)
    world.wrong = 0.6
    for _ in range(60):
        world.run(A_TURN)
        world.begin()
        if world.loop.state is LoopState.COOLING:
            break
    assert world.loop.reason == "img:v2 has all traffic"
    assert [o.phase for o in dict.fromkeys(world.calls)] == ALL_PHASES
    assert all(world.calls.count(order) == 3 for order in world.calls)


def test_a_candidate_that_is_no_better_leaves_the_champion_and_the_same_drift_is_left_alone():
    world = World(is_better=False)
    world.run(STEADY)
    world.wrong = 0.6
    world.run(500, lambda loop: loop.state is LoopState.COOLING)
    world.run(100)
    world.wait(40_000)
    assert world.stable.version == 1
    assert "the champion stays: told by compare" in [d.reason for d in explain(world.store, "img")]
    assert {order.number for order in world.calls} == {1}


def test_runs_that_fail_are_tried_again_after_the_cooldown_until_the_breaker_opens():
    world = World(failing={Phase.TRAIN: "step train failed"})
    world.run(STEADY)
    world.wrong = 0.6
    world.run(400, lambda loop: loop.state is LoopState.COOLING)
    world.wait(80_000, lambda loop: loop.state is LoopState.PAUSED)
    assert (world.loop.state, world.loop.number) == (LoopState.PAUSED, 2)
    assert "2 retrainings in a row did not help" in world.loop.reason
    world.failing.clear()
    retraining.resume(world.store, "img", who="ada", now=world.clock.now())
    world.wait(9_000, lambda loop: loop.state is LoopState.COOLING)
    assert world.loop.reason == "img:v4 has all traffic"


def test_a_release_that_is_rolled_back_counts_as_a_failure():
    world = World(release_ends=RolloutState.ROLLED_BACK)
    world.run(STEADY)
    world.wrong = 0.6
    world.run(500, lambda loop: loop.state is LoopState.COOLING)
    assert world.loop.failures == 1
    assert "rolled back: harm" in world.loop.reason.replace("_", " ")


def test_a_paused_loop_starts_nothing_and_takes_the_drift_up_when_it_is_resumed():
    world = World()
    world.run(STEADY)
    assert retraining.pause(world.store, "img", who="ada", now=world.clock.now()).state is LoopState.PAUSED
    world.wrong = 0.6
    world.run(100)
    assert (world.loop.state, world.calls) == (LoopState.PAUSED, [])
    assert any("waits, as the loop is paused" in d.reason for d in explain(world.store, "img"))
    retraining.resume(world.store, "img", who="ada", now=world.clock.now())
    world.run(500, lambda loop: loop.state is LoopState.COOLING)
    assert world.loop.reason == "img:v2 has all traffic"


def test_a_retraining_under_way_is_given_up_by_a_pause_but_not_while_traffic_moves():
    world = World(deaf=10_000)
    world.run(STEADY)
    world.wrong = 0.6
    world.run(500, lambda loop: loop.gathered_at > 0)
    assert "given up" in retraining.pause(world.store, "img", who="ada", now=world.clock.now()).reason
    releasing = replace(world.loop, state=LoopState.RELEASING)
    world.store.put("drift/img", retraining.loop_json(releasing), expect=None)
    with pytest.raises(InvalidTransition):
        retraining.pause(world.store, "img", who="ada", now=world.clock.now())


def test_a_system_that_was_taken_down_is_left_down_by_its_loop():
    world = World(deaf=10_000)
    world.run(STEADY)
    world.wrong = 0.6
    world.run(500, lambda loop: loop.gathered_at > 0)
    calls = len(world.calls)
    down = System("img", world.stable, None, {}, (), "down")
    world.store.put(system_key("img"), system_json(down), expect=None)
    world.wait(6000)
    assert len(world.calls) == calls
    assert world.loop.state is LoopState.CHOOSING


def test_a_drift_is_only_recorded_where_the_spec_does_not_ask_for_retraining():
    world = World(recipe=Recipe("img", "/specs/img.yaml", retrain=False))
    world.run(STEADY)
    world.wrong = 0.6
    world.run(100)
    decision = explain(world.store, "img")[0]
    assert decision.decision == "img:v1 has drifted"
    assert "`watch.retrain` is off" in decision.reason
    assert world.calls == []


def test_a_controller_that_was_overtaken_does_nothing_more():
    world = World()
    old = world.controller
    world.begin()
    with pytest.raises(LeaseLost):
        old.turn()


def test_a_system_that_nobody_watches_cannot_be_paused():
    with pytest.raises(UserError, match="not watched"):
        retraining.pause(MemoryStore(), "img", who="ada", now=0.0)


def test_a_loop_is_the_same_after_it_was_stored():
    world = World()
    world.run(STEADY)
    world.wrong = 0.6
    world.run(500, lambda loop: loop.state is LoopState.COOLING)
    assert retraining.loop_from(retraining.loop_json(world.loop)) == world.loop
