"""The remedy of least expected cost for one node, with the cost of every alternative and the reason of the choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache


class Remedy(Enum):
    """In order of how much each changes: of equal costs the mildest is taken."""

    WAIT = "wait"
    CHECKPOINT = "checkpoint now"
    RESTART_WORKER = "restart worker"
    WEIGH_DOWN = "weigh down"
    """New work goes there only where there is no better place; what runs there goes on."""
    CORDON = "cordon"
    MOVE = "move"
    DRAIN = "drain"
    ROLL_BACK = "roll back model"


TAKES_CAPACITY = frozenset({Remedy.CORDON, Remedy.MOVE, Remedy.DRAIN})


@dataclass(frozen=True, slots=True)
class Workload:
    """What runs on the node. Costs are slot-seconds: seconds times the slots that stand still or do again."""

    slots: int = 0
    """Of the whole gang (they stop together), or of the replicas on this node."""
    unsaved_s: float = 0.0
    """Work of each slot since the last checkpoint that counts."""
    next_checkpoint_s: float | None = None
    """Until the next regular checkpoint; None if none is due, or failures follow their signs at once."""
    checkpoint_s: float | None = None
    """How long a checkpoint stops the gang; None for work that has none (replicas)."""
    detection_s: float = 10.0
    restart_s: float = 180.0
    """From the verdict of a failure until the work runs again."""
    move_s: float = 60.0
    """Pause of a planned move; 0 for replicas, which are started first and stopped after."""
    has_spare: bool = False
    """A healthy node has room for it now."""
    error_cost_slot_s: float = 0.0
    """Cost of the requests that a node's failure loses, in the same coin."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What may be wrong, as probabilities that exclude each other."""

    node: float
    """The node fails within the horizon."""
    worker: float = 0.0
    """The node is sound, one worker on it hangs or is slow."""
    version: float = 0.0
    """The node is sound, the model version that it serves is not."""
    bad_nodes_of_version: int = 0
    """Nodes on which the same version shows the same evidence."""
    version_cost_slot_s: float = 0.0
    """Cost of serving a bad version for the rest of the horizon."""
    drag_ratio: float = 0.0
    """The node works, and loses this share of its time."""
    slow_for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Prices:
    """Of remedies in slot-seconds, set by the fleet and not by the node."""

    horizon_s: float = 3600.0
    idle_ratio: float = 0.05
    """Value of a free slot relative to a busy one."""
    node_slots: int = 1
    """Of the whole node: what the fleet misses while it is away."""
    free_slots: int = 0
    """Of these, free for new work now."""
    repair_s: float = 1800.0
    """How long a drained node is away."""
    roll_back_slot_s: float = 60.0
    may_drain: bool = True
    """Nobody who runs something there has forbidden it."""
    has_others: bool = True
    """Another node takes new work."""


@dataclass(frozen=True, slots=True)
class Choice:
    remedy: Remedy
    cost_slot_s: float
    costs: Mapping[Remedy, float]
    """Of every remedy that is possible here, the cheapest first."""
    excluded: Mapping[Remedy, str]
    """Why the others are not possible."""
    reason: str


def choose(suspicion: Suspicion, work: Workload, prices: Prices = Prices()) -> Choice:
    """The remedy whose expected cost is least (Bayes decision rule: Berger, Statistical Decision Theory, section 1.3).

    Over one horizon, with p the node's probability, W the work that a failure undoes, D detection, R restart, C the
    checkpoint, M the planned pause, G slots, F what new work on the node would lose, and A the worth of its absence:

        wait        p ((W + D + R) G + F)      checkpoint  C G + p ((D + R) G + F)
        cordon      p (W + D + R) G + A        move        (C + M) G + A + p x relapse of a node not repaired
        drain       (C + M) G + A for longer, and a repaired node
        restart     (W + R) G, against a whole horizon G that hangs
        weigh down  as to wait, with a tenth of the new work, and A of half of the free slots for as long as it is slow
        roll back   its price, against that of serving a bad version

    A slow node, which loses a share of its time, adds that share of what runs and of what will be started there. How
    long it stays slow nobody knows: it is taken to last as long again as it has lasted, so that what is lost before a
    move is at most what the move costs (ski rental: Karlin et al., Algorithmica 3, 1988; used for slow trainings by
    Greyhound, USENIX ATC 2025).
    """
    costs = _costs(suspicion, work, prices)
    excluded = _excluded(suspicion, work, prices)
    possible = {r: c for r, c in costs.items() if r not in excluded}
    ranked = dict(sorted(possible.items(), key=lambda item: (item[1], _ORDER[item[0]])))
    best, cost = next(iter(ranked.items()))
    return Choice(best, cost, ranked, excluded, _reason(best, ranked, suspicion, work))


@lru_cache(maxsize=4096)
def acts_from(work: Workload, prices: Prices = Prices()) -> float:
    """The smallest probability of a node's failure from which something is cheaper than to wait; 1.0 if nothing is.

    All costs are lines in p, so each crosses that of waiting once.
    """
    at_0, at_1 = (_costs(Suspicion(p), work, prices) for p in (0.0, 1.0))
    excluded = _excluded(Suspicion(0.0), work, prices)
    crossings = [1.0]
    for remedy in at_0:
        gain = (at_1[Remedy.WAIT] - at_0[Remedy.WAIT]) - (at_1[remedy] - at_0[remedy])
        if remedy not in excluded and gain > 0.0:
            crossings.append((at_0[remedy] - at_0[Remedy.WAIT]) / gain)
    return min(max(min(crossings), LEAST_THRESHOLD), 1.0)


LAST_RESORT_RATIO = 0.1
"""Of new work that goes to a node that is weighed down all the same."""
LEAST_THRESHOLD = 0.005
"""Below this no calibration is good enough to act on."""
_ORDER = {remedy: i for i, remedy in enumerate(Remedy)}


def _costs(suspicion: Suspicion, work: Workload, prices: Prices) -> dict[Remedy, float]:
    """Every line is linear in each probability. A gang that is put anew is as exposed as before on its other nodes, so
    these are left out on both sides."""
    p, slots = suspicion.node, float(work.slots)
    lost, lost_after = (seconds * slots for seconds in _lost_s(work, prices.horizon_s))
    down = (work.detection_s + work.restart_s) * slots + work.error_cost_slot_s
    fresh = prices.free_slots * prices.horizon_s / 2.0
    stuck = suspicion.worker * slots * prices.horizon_s
    version = suspicion.version * suspicion.version_cost_slot_s
    again = (work.unsaved_s + work.restart_s) * slots
    pause = ((work.checkpoint_s or 0.0) + work.move_s) * slots + suspicion.worker * again
    absence = prices.idle_ratio * prices.node_slots * prices.horizon_s
    rest_s = min(suspicion.slow_for_s, prices.horizon_s)
    slow, slow_fresh = (suspicion.drag_ratio * rest_s * n for n in (slots, prices.free_slots / 2.0))
    stop, idle = (work.checkpoint_s or 0.0) * slots, prices.idle_ratio * prices.free_slots
    weighed = LAST_RESORT_RATIO * slow_fresh + idle * rest_s / 2.0
    return {
        Remedy.WAIT: p * (lost + down + fresh) + stuck + version + slow + slow_fresh,
        Remedy.CHECKPOINT: stop + p * (lost_after + down + fresh) + stuck + version + slow + slow_fresh,
        Remedy.RESTART_WORKER: again + p * (lost_after + down + fresh) + version + slow + slow_fresh,
        Remedy.WEIGH_DOWN: p * (lost + down + LAST_RESORT_RATIO * fresh) + stuck + version + slow + weighed,
        Remedy.CORDON: p * (lost + down) + stuck + version + slow + idle * prices.horizon_s,
        Remedy.MOVE: pause + absence + p * _relapse(work, prices) + version + slow_fresh,
        Remedy.DRAIN: pause + absence * (1.0 + prices.repair_s / prices.horizon_s) + version,
        Remedy.ROLL_BACK: p * (lost + down + fresh) + stuck + prices.roll_back_slot_s + slow + slow_fresh,
    }


def _lost_s(work: Workload, horizon_s: float) -> tuple[float, float]:
    """Work of each slot that a failure within the horizon is expected to undo: as things stand, and after a checkpoint.

    The failure comes at any instant of the horizon alike. Before the next regular checkpoint it costs what is unsaved
    and what is added until then; after it, half an interval, whatever is done now.
    """
    if work.next_checkpoint_s is None:
        return work.unsaved_s, 0.0
    interval_s = work.unsaved_s + work.next_checkpoint_s
    soon = min(1.0, work.next_checkpoint_s / horizon_s)
    before = work.unsaved_s + min(work.next_checkpoint_s, horizon_s) / 2.0
    return soon * before + (1.0 - soon) * interval_s / 2.0, min(interval_s, horizon_s) / 2.0


def _relapse(work: Workload, prices: Prices) -> float:
    """What a sick node costs that was only emptied: it comes back as it was and takes down the next that runs on it."""
    return (work.detection_s + work.restart_s) * prices.node_slots


def _excluded(suspicion: Suspicion, work: Workload, prices: Prices) -> dict[Remedy, str]:
    reasons: dict[Remedy, str] = {}
    if stays := _why_it_stays(suspicion, work, prices):
        reasons[Remedy.MOVE] = reasons[Remedy.DRAIN] = stays
    if not work.slots:
        idle = "nothing runs on it"
        reasons |= {r: idle for r in (Remedy.MOVE, Remedy.CHECKPOINT, Remedy.RESTART_WORKER)}
    if work.slots and work.checkpoint_s is None:
        reasons[Remedy.CHECKPOINT] = "its work has no checkpoints"
    if suspicion.drag_ratio == 0.0 or not prices.has_others:
        reasons[Remedy.WEIGH_DOWN] = "it is not slow" if prices.has_others else "no other node takes new work"
    if suspicion.worker == 0.0:
        reasons[Remedy.RESTART_WORKER] = "nothing speaks against a worker"
    if suspicion.bad_nodes_of_version < 2:
        reasons[Remedy.ROLL_BACK] = "the evidence does not follow one version across two nodes"
    return reasons


def _why_it_stays(suspicion: Suspicion, work: Workload, prices: Prices) -> str:
    if not prices.may_drain:
        return "the spec of a system that runs here says `health: {drain: never}`"
    if work.slots and not work.has_spare:
        return "no healthy node has room for its work"
    return "the evidence points at a worker, not at the node" if suspicion.worker > suspicion.node else ""


def _reason(best: Remedy, ranked: Mapping[Remedy, float], suspicion: Suspicion, work: Workload) -> str:
    others = [f"{r.value} {c:,.0f}" for r, c in ranked.items() if r is not best]
    beside = f", against {', '.join(others)}" if others else ""
    what = f"fails with {suspicion.node:.1%}"
    if suspicion.worker:
        what += f", one of its workers is at fault with {suspicion.worker:.1%}"
    if suspicion.version:
        what += f", its model version with {suspicion.version:.1%}"
    if suspicion.drag_ratio:
        what += f", loses {suspicion.drag_ratio:.0%} of its time for {suspicion.slow_for_s:.0f} s now"
    at_stake = f"{work.slots} slots with {work.unsaved_s:.0f} s unsaved" if work.slots else "nothing runs on it"
    return f"{best.value}: {what}; {at_stake}; expected {ranked[best]:,.0f} slot-seconds{beside}"
