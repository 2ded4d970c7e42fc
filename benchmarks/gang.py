"""One training on a simulated fleet, run by the platform's own decisions under a clock that jumps.

Hazards, fusion, fold, remedy, guard, placement and checkpoint interval are the product's; only the nodes are invented.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.fleet import HORIZON_S, Happening, Kind, Rates, World, draw_readings
from platformops.clock import ManualClock
from platformops.health.calibration import Decided, Record, learn_outcomes, trust
from platformops.health.fold import Condition, Observation, fold
from platformops.health.fusion import FusedModel
from platformops.health.guard import Fleet, Guard, Order, rule
from platformops.health.hazard import (
    DAY_S,
    PUBLISHED,
    HazardPrior,
    NodeHistory,
    class_prior,
    failure_probability,
    hazard_per_s,
    steady_per_s,
    watched,
)
from platformops.health.remedy import Choice, Prices, Remedy, Suspicion, Workload, acts_from, choose
from platformops.health.risk import Readings
from platformops.health.states import NodeState
from platformops.scheduler.interval import checkpoint_interval_s, is_worth_changing
from platformops.scheduler.place import place
from platformops.scheduler.records import Job, NodeView

CHECKPOINT_S = 60.0
REPAIR_S = DAY_S
CHECK_S = 3600.0
LOOK_S = 600.0
"""How often a node that shows something is read again."""
LEMON_TIMES = 1.75
"""A node that comes back from repair with so many times the fleet's hazard, about two failures within a half-life, is
replaced instead: without the lemons, jobs of 512 and more GPUs failed 4 % instead of 14 % (Kokolis et al., HPCA 2025).
At 2.5 four nodes in a hundred are replaced in 60 days and goodput is 0.002 lower; here it is ten."""
PRICES = Prices(horizon_s=HORIZON_S)


@dataclass(frozen=True, slots=True)
class Policy:
    """How failures are met."""

    interval_s: float | None = None
    """Fixed; None for the one that follows the gang's hazards."""
    detect_crash_s: float = 8.0
    detect_hang_s: float = 10.0
    restart_s: float = 180.0
    move_s: float = 120.0
    spare_ratio: float = 0.02
    """Nodes kept warm beside the gang; 0: the failed node itself comes back."""
    model: FusedModel | None = None
    is_oracle: bool = False
    """Knows every failure before it happens, and nothing that does not."""


DEFAULTS = Policy(interval_s=3600.0, detect_crash_s=35.0, detect_hang_s=600.0, restart_s=900.0, spare_ratio=0.0)
"""Hourly checkpoints, detection and cold restart as frameworks come."""


@dataclass(slots=True)
class Tally:
    useful_s: float = 0.0
    failures: int = 0
    foreseen: int = 0
    """Failures of nodes that the gang had left in time, or that struck right after a checkpoint."""
    moves: int = 0
    checkpoints: int = 0
    false_moves: int = 0
    orders: list[tuple[float, Order]] = field(default_factory=list)
    most_taken: int = 0
    """Nodes that the guard had out at once within its window."""


class Gang:
    """A training of `num_nodes` nodes that stops whenever one of them does."""

    def __init__(self, num_nodes: int, policy: Policy, rng: np.random.Generator, rates: Rates | None = None) -> None:
        self.policy, self.rates, self.clock = policy, rates or Rates(), ManualClock(0.0)
        spares = max(2, math.ceil(policy.spare_ratio * num_nodes)) if policy.spare_ratio else 0
        self.world = World(num_nodes + spares, self.rates, rng, 0.0)
        self.members = set(range(num_nodes))
        self.spares = set(range(num_nodes, num_nodes + spares))
        self.histories = [NodeHistory(0.0) for _ in range(num_nodes + spares)]
        self.departed: list[NodeHistory] = []
        self.conditions = [Condition() for _ in range(num_nodes + spares)]
        self.prior: HazardPrior = PUBLISHED
        self.guard, self.record, self.tally = Guard(), Record(0.0), Tally()
        self.waiting: list[tuple[float, int, float]] = []
        self.failed_at: dict[int, float] = {}
        self.doomed: set[int] = set()
        self.bursts: dict[int, float] = {}
        self.since = 0.0
        self.interval_s = policy.interval_s or self._wanted_interval_s()
        for node in sorted(self.members):
            self.world.load(node, 0.0)

    def run(self, days: float) -> Tally:
        end = days * DAY_S
        while True:
            happening = self.world.next()
            if happening.at >= end:
                break
            # What falls into a stop of the gang (a restart, a checkpoint) is met when it runs again.
            self.clock.sleep(max(0.0, happening.at - self.clock.now()))
            self._meet(happening)
        self.clock.sleep(max(0.0, end - self.clock.now()))
        self._commit(self.unsaved_s)
        return self.tally

    def ratio(self, days: float) -> float:
        """Useful time over all time, with checkpoints, lost work and stops as loss."""
        return self.run(days).useful_s / (days * DAY_S)

    @property
    def unsaved_s(self) -> float:
        """Work since the last checkpoint. Complete cycles of work and checkpoint before it are settled on the way."""
        cycle = self.interval_s + CHECKPOINT_S
        passed_s = max(0.0, self.clock.now() - self.since)
        complete = math.floor(passed_s / cycle)
        self.tally.useful_s += complete * self.interval_s
        self.since += complete * cycle
        return min(passed_s - complete * cycle, self.interval_s)

    def _meet(self, happening: Happening) -> None:
        match happening.kind:
            case Kind.CRASH | Kind.HANG:
                self._fail(happening)
            case Kind.REPAIRED:
                self._return(happening.node)
            case Kind.SIGNS:
                self.doomed.add(happening.node)
                self._suspect(happening.node, Kind.SIGNS)
            case Kind.BENIGN:
                self.world.benign(happening.node, self.clock.now())
                self.bursts[happening.node] = self.clock.now() + self.rates.benign_s
                self._suspect(happening.node, Kind.BENIGN)
            case Kind.LOOK:
                self._look(happening.node)
            case Kind.HOUR:
                self.world.later(self.clock.now() + CHECK_S, Kind.HOUR)
                self._hourly()

    def _fail(self, happening: Happening) -> None:
        node, now = happening.node, self.clock.now()
        self.tally.failures += 1
        if self.policy.is_oracle:
            self.tally.foreseen += 1
            self._move(node)
            return
        _ = self.unsaved_s  # settles complete cycles; what is left of the present one is lost
        is_hang = happening.kind is Kind.HANG
        stop_s = self.policy.detect_hang_s if is_hang else self.policy.detect_crash_s
        self._note_failure(node, now)
        burst = {node}
        if self.world.rng.random() < self.rates.burst_ratio:
            burst |= {n for n in range(node - 2, node + 3) if n in self.members}
        for one in sorted(burst):
            self._replace(one)
        self._resume(stop_s + self.policy.restart_s)

    def _note_failure(self, node: int, now: float) -> None:
        self.histories[node] = watched(self.histories[node], now, failures=1)
        self.failed_at[node] = now

    def _replace(self, node: int) -> None:
        """The node leaves for repair and the best spare takes its place; without a spare it comes back itself."""
        now = self.clock.now()
        self.doomed.discard(node)
        spare = self._best_spare()
        if spare is None:
            self.world.load(node, now)
            return
        self.bursts.pop(node, None)
        self.world.unload(node)
        self.members.discard(node)
        self.spares.discard(spare)
        self.members.add(spare)
        self.histories[node] = watched(self.histories[node], now)
        self.histories[spare] = replace(self.histories[spare], seen_at=now)
        self.world.load(spare, now)
        self.world.later(now + REPAIR_S, Kind.REPAIRED, node)

    def _best_spare(self) -> int | None:
        now = self.clock.now()
        views = [NodeView(f"{n:05d}", {"slot": 1.0}, hazard_per_s=self._hazard(n)) for n in sorted(self.spares)]
        plan = place([Job("rank", "gang", now, needs={"slot": 1.0})], views, now=now)
        return int(plan.placements[0].nodes[0]) if plan.placements else None

    def _return(self, node: int) -> None:
        now = self.clock.now()
        self.conditions[node] = Condition(since=now)
        self.histories[node] = replace(self.histories[node], seen_at=now)
        if steady_per_s(self.histories[node], self.prior) >= LEMON_TIMES * self.prior.mean_per_s:
            self.world.renew(node)
            self.departed.append(self.histories[node])
            self.histories[node] = NodeHistory(now)
        self.spares.add(node)

    def _resume(self, stop_s: float) -> None:
        self.since = self.clock.now() + stop_s
        self.clock.sleep(stop_s)

    def _commit(self, work_s: float) -> None:
        self.tally.useful_s += work_s

    def _move(self, node: int) -> None:
        """Checkpoint, then the node's rank on a spare: nothing is lost but the time that it takes."""
        self._commit(self.unsaved_s)
        self._replace(node)
        self._resume(CHECKPOINT_S + self.policy.move_s)

    def _hazard(self, node: int) -> float:
        history = self.histories[node]
        if node in self.members:
            history = watched(history, self.clock.now())
        return hazard_per_s(history, self.prior, self.clock.now())

    def _wanted_interval_s(self) -> float:
        foreseen = self.tally.foreseen / self.tally.failures if self.tally.failures >= 20 else 0.0
        hazards = (self._hazard(node) for node in self.members)
        return checkpoint_interval_s(hazards, checkpoint_s=CHECKPOINT_S, foreseen_ratio=min(foreseen, 0.9))

    def _hourly(self) -> None:
        now = self.clock.now()
        if now % DAY_S < CHECK_S:
            self._daily(now)
        if self.policy.model is not None:
            self._screen(self.policy.model)

    def _daily(self, now: float) -> None:
        for node in self.members:
            self.histories[node] = watched(self.histories[node], now)
        self.prior = class_prior([*self.histories, *self.departed], fallback=PUBLISHED)
        wanted = self._wanted_interval_s()
        if self.policy.interval_s is None and is_worth_changing(self.interval_s, wanted):
            self._commit(self.unsaved_s)
            self.since, self.interval_s = now, wanted
        due = [case for case in self.waiting if case[0] + HORIZON_S <= now]
        self.waiting = [case for case in self.waiting if case[0] + HORIZON_S > now]
        outcomes = [Decided("node", p, at <= self.failed_at.get(n, -1.0) <= at + HORIZON_S) for at, n, p in due]
        self.record = learn_outcomes(self.record, outcomes, now)

    def _screen(self, model: FusedModel) -> None:
        """Every quiet node is read too: among thousands, noise alone looks ill now and then."""
        quiet = sorted(self.members - self.doomed)
        columns = draw_readings(self.world.rng, np.zeros(len(quiet)))
        priors = np.full(len(quiet), failure_probability(self.prior.mean_per_s * HORIZON_S))
        found = model.probabilities(priors, columns)
        least = 0.5 * acts_from(self._workload(), PRICES)
        for i in np.flatnonzero(found >= least):
            self._judge(quiet[i], {name: float(values[i]) for name, values in columns.items()})

    def _look(self, node: int) -> None:
        if node in self.doomed:
            self._suspect(node, Kind.SIGNS)
        elif self.bursts.get(node, 0.0) > self.clock.now():
            self._suspect(node, Kind.BENIGN)

    def _suspect(self, node: int, kind: Kind) -> None:
        if self.policy.model is not None and node in self.members:
            self.world.later(self.clock.now() + LOOK_S, Kind.LOOK, node)
            self._judge(node, self.world.readings(kind))

    def _judge(self, node: int, readings: Readings) -> None:
        assert self.policy.model is not None
        now, work = self.clock.now(), self._workload()
        prior = failure_probability(self._hazard(node) * HORIZON_S)
        risk = self.policy.model.judge(prior, readings)
        self.waiting.append((now, node, risk.probability))
        risk = trust(self.record, "node", risk)
        seen = Observation(risk.actionable, acts_from(work, PRICES), why=risk.terms[0].words)
        folded = fold(self.conditions[node], seen, now, subject=f"node {node}")
        self.conditions[node] = folded.condition
        if folded.condition.state is NodeState.UNHEALTHY:
            self._act(node, choose(Suspicion(risk.actionable), work, PRICES))

    def _workload(self) -> Workload:
        unsaved_s = self.unsaved_s
        return Workload(
            slots=len(self.members),
            unsaved_s=unsaved_s,
            next_checkpoint_s=self.interval_s - unsaved_s,
            checkpoint_s=CHECKPOINT_S,
            detection_s=self.policy.detect_crash_s,
            restart_s=self.policy.restart_s,
            move_s=self.policy.move_s,
            has_spare=bool(self.spares),
        )

    def _act(self, node: int, choice: Choice) -> None:
        now = self.clock.now()
        order = Order(str(node), choice.remedy, 1, now)
        usable = len(self.members) + len(self.spares)
        ruling = rule(self.guard, order, Fleet(usable, usable, len(self.members), usable), now)
        self.guard = ruling.guard
        self.tally.most_taken = max(self.tally.most_taken, len(self.guard.taken))
        if not ruling.is_allowed or choice.remedy is Remedy.WAIT:
            return
        self.tally.orders.append((now, order))
        if choice.remedy is Remedy.CHECKPOINT:
            self.tally.checkpoints += 1
            self._commit(self.unsaved_s)
            self._resume(CHECKPOINT_S)
        elif choice.remedy in (Remedy.MOVE, Remedy.DRAIN):
            self._leave(node)

    def _leave(self, node: int) -> None:
        self.tally.moves += 1
        if node in self.doomed:
            self.tally.foreseen += 1
            self.tally.failures += 1
            self._note_failure(node, self.clock.now())
        else:
            self.tally.false_moves += 1
        self._move(node)
