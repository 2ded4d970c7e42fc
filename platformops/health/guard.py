"""Keeps remedies within bounds: one writer by epoch, a budget of capacity, and a breaker that only a person resets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from platformops.health.remedy import TAKES_CAPACITY, Remedy

BUDGET_RATIO = 0.10
BUDGET_WINDOW_S = 1800.0
LEAST_SEEN_RATIO = 0.5


@dataclass(frozen=True, slots=True)
class Guard:
    """The memory of the guard; kept in the store beside the decisions."""

    epoch: int = 0
    """Highest that was seen."""
    taken: tuple[tuple[float, str], ...] = ()
    """(instant, node) of the remedies within the window that took capacity."""
    opened_at: float | None = None
    opened_because: str = ""


@dataclass(frozen=True, slots=True)
class Fleet:
    num_nodes: int
    num_usable: int
    """Neither dead nor cordoned nor drained."""
    num_needed: int
    """That the running gangs and replicas cannot do without."""
    num_heard: int
    """Nodes whose probe was heard within the lease."""
    sees_store: bool = True
    budget_ratio: float = BUDGET_RATIO


@dataclass(frozen=True, slots=True)
class Order:
    """A remedy to be carried out; doing it twice is harmless, as `key` says."""

    node: str
    remedy: Remedy
    epoch: int
    decided_at: float

    @property
    def key(self) -> str:
        return f"{self.epoch}/{self.node}/{self.remedy.value}/{self.decided_at:.3f}"


@dataclass(frozen=True, slots=True)
class Ruling:
    is_allowed: bool
    guard: Guard
    reason: str = ""


def rule(guard: Guard, order: Order, fleet: Fleet, now: float) -> Ruling:
    """Whether the order may be carried out, and the guard after it. What it refuses it says why."""
    if order.remedy is Remedy.WAIT:
        return Ruling(True, guard)
    if order.epoch < guard.epoch:
        return Ruling(
            False, guard, f"epoch {order.epoch} is over: a newer controller decides since epoch {guard.epoch}"
        )
    guard = replace(guard, epoch=order.epoch, taken=_recent(guard, now))
    blind = _is_blind(fleet)
    if blind:
        return Ruling(False, guard, blind)
    if order.remedy not in TAKES_CAPACITY:
        return Ruling(True, guard)
    return _capacity(guard, order, fleet, now)


def reset(guard: Guard) -> Guard:
    """The breaker closed again by a person; what it counted is forgotten."""
    return replace(guard, opened_at=None, opened_because="", taken=())


def budget(fleet: Fleet) -> int:
    """Nodes that may lose their place within the window: a tenth, but always one (a fleet of three must heal too)."""
    return max(1, math.floor(fleet.budget_ratio * fleet.num_nodes))


def _capacity(guard: Guard, order: Order, fleet: Fleet, now: float) -> Ruling:
    if any(node == order.node for _, node in guard.taken):
        return Ruling(True, guard, "it is already out of the fleet")
    if guard.opened_at is not None:
        return Ruling(False, guard, f"the breaker is open: {guard.opened_because}; reset it by hand")
    if len(guard.taken) >= budget(fleet):
        because = (
            f"{len(guard.taken)} nodes in {BUDGET_WINDOW_S / 60:.0f} min is the budget of a fleet of {fleet.num_nodes}"
        )
        opened = replace(guard, opened_at=now, opened_because=because)
        return Ruling(False, opened, f"the breaker opens: {because}; so many at once is rarely the nodes' own fault")
    if fleet.num_usable - 1 < fleet.num_needed:
        return Ruling(False, guard, f"{fleet.num_usable} nodes are left and what runs needs {fleet.num_needed}")
    return Ruling(True, replace(guard, taken=(*guard.taken, (now, order.node))))


def _recent(guard: Guard, now: float) -> tuple[tuple[float, str], ...]:
    return tuple(t for t in guard.taken if now - t[0] < BUDGET_WINDOW_S)


def _is_blind(fleet: Fleet) -> str:
    if not fleet.sees_store:
        return "the store is out of reach: observe only, another controller may hold the lease"
    if fleet.num_heard <= LEAST_SEEN_RATIO * fleet.num_nodes:
        return f"only {fleet.num_heard} of {fleet.num_nodes} probes are heard: the fault may be here; observe only"
    return ""
