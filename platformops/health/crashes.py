"""Whether replicas die because of the version that they serve, of the node that they are on, or by chance (Bayes).

Three kinds of explanation exclude each other: one version is bad, one node is, or neither. Crashes come at a rate that
nobody knows, so that each explanation is worth the probability of what was seen with that rate integrated out
(Gamma-Poisson: Gelman et al., Bayesian Data Analysis, 3rd ed., section 2.6): a bad version has one rate on all of its
nodes, a bad node one for all versions, and by chance each pair has its own, which is low.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from platformops.health.remedy import Choice, Prices, Suspicion, Workload, choose

WINDOW_S = 86_400.0
HOUR_S = 3600.0
CHANCE = (0.5, 12.0)
"""Shape, and hours: a process is ended from outside about once a day, on some machines far more often."""
FAULT = (1.0, 1.0 / 6.0)
"""One that has a fault dies some six times an hour, more or less."""
PRIOR_VERSION, PRIOR_NODE = 0.01, 0.01
"""Of a version that has passed its gates, and of a node that goes on working."""
ROLL_BACK_SLOT_S = 300.0
"""What a version that has passed its gates is worth: minutes of a replica."""
RESTART_S = 60.0
"""From the death of a replica until another one answers in its place."""


@dataclass(frozen=True, slots=True)
class Life:
    """One replica, in epoch seconds."""

    revision: str
    node: str
    began: float
    ended: float | None = None
    """None while it lives."""
    has_crashed: bool = False
    """Its process ended, and nobody who manages it had it ended."""


@dataclass(frozen=True, slots=True)
class Blame:
    """What the deaths of the replicas of one revision come to."""

    revision: str
    probability: float
    """That its version is what they die of."""
    crashes: int
    nodes: int
    """On which they crashed."""
    per_s: float
    """Crashes to expect of all that live, if it is the version."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """The replicas of one revision on one node."""

    crashes: int = 0
    hours: float = 0.0


def blamed(lives: Iterable[Life], sound: Collection[str], now: float) -> Mapping[str, Blame]:
    """For each revision of which a replica crashed within a day. `sound` are the nodes that live: a replica that went
    with its node is nobody's crash but the node's."""
    known = [life for life in lives if life.ended is None or now - life.ended < WINDOW_S]
    cells = _cells(known, sound, now)
    revisions = sorted({revision for (revision, _), cell in cells.items() if cell.crashes})
    by_version = {r: _log_odds(cells, [k for k in cells if k[0] == r], PRIOR_VERSION) for r in revisions}
    nodes = {node for (_, node), cell in cells.items() if cell.crashes}
    by_node = [_log_odds(cells, [k for k in cells if k[1] == n], PRIOR_NODE) for n in sorted(nodes)]
    most = max([0.0, *by_version.values(), *by_node])
    total = sum(math.exp(odds - most) for odds in (0.0, *by_version.values(), *by_node))
    found = {}
    for revision, odds in by_version.items():
        own = {node: cell for (r, node), cell in cells.items() if r == revision}
        crashes, hours = sum(c.crashes for c in own.values()), sum(c.hours for c in own.values())
        alive = sum(life.revision == revision and life.ended is None for life in known)
        per_s = alive * (FAULT[0] + crashes) / (FAULT[1] + hours) / HOUR_S
        num_nodes = sum(cell.crashes > 0 for cell in own.values())
        found[revision] = Blame(revision, math.exp(odds - most) / total, crashes, num_nodes, per_s)
    return found


def remedy_for(blame: Blame) -> Choice:
    """Whether the version is better rolled back, by expected cost over the next hour."""
    cost = blame.per_s * HOUR_S * RESTART_S
    suspicion = Suspicion(
        0.0, version=blame.probability, bad_nodes_of_version=blame.nodes, version_cost_slot_s=cost
    )  # fmt: skip
    return choose(suspicion, Workload(), Prices(HOUR_S, roll_back_slot_s=ROLL_BACK_SLOT_S, may_drain=False))


def _cells(lives: Iterable[Life], sound: Collection[str], now: float) -> Mapping[tuple[str, str], _Cell]:
    crashes: dict[tuple[str, str], int] = defaultdict(int)
    hours: dict[tuple[str, str], float] = defaultdict(float)
    for life in lives:
        where, until = (life.revision, life.node), now if life.ended is None else life.ended
        hours[where] += max(0.0, until - max(life.began, now - WINDOW_S)) / HOUR_S
        crashes[where] += life.has_crashed and life.node in sound
    return {where: _Cell(crashes[where], spent) for where, spent in hours.items()}


def _log_odds(cells: Mapping[tuple[str, str], _Cell], own: Collection[tuple[str, str]], prior: float) -> float:
    """Of one fault that all of `own` share, against chance everywhere; the other pairs are by chance in both."""
    together = _Cell(sum(cells[k].crashes for k in own), sum(cells[k].hours for k in own))
    by_chance = sum(_log_evidence(cells[k], CHANCE) for k in own)
    return math.log(prior / (1.0 - prior)) + _log_evidence(together, FAULT) - by_chance


def _log_evidence(cell: _Cell, rate: tuple[float, float]) -> float:
    """Logarithm of the probability of so many crashes, the rate integrated out; without the terms that every
    explanation has in common."""
    shape, hours = rate
    grown = shape + cell.crashes
    return math.lgamma(grown) - math.lgamma(shape) + shape * math.log(hours) - grown * math.log(hours + cell.hours)
