"""Whether replicas die because of the version that they serve, of the node that they are on, or by chance (Bayes).

Crashes come at a rate that nobody knows, so that each explanation is worth the probability of what was seen with that
rate integrated out (Gamma-Poisson: Gelman et al., Bayesian Data Analysis, 3rd ed., section 2.6): a bad version has one
rate on all of its nodes, a bad node one for all versions, and by chance each pair has its own, which is low. The best
explanation is taken, what it explains is left out, and the rest is looked at again: there may be two.
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
GRACE_S = 30.0
"""Until a death counts: by then it is known whether the node died with it."""
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
    """Its process ended, and Ray had not been asked for that."""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Blame:
    """What the deaths of the replicas of one revision come to."""

    revision: str
    probability: float
    """That its version is what they die of."""
    crashes: int
    nodes: int
    """On which they crashed more than once: whatever befell all nodes in one moment is one event."""
    per_s: float
    """Crashes to expect of all that live, if it is the version."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """The replicas of one revision on one node."""

    crashes: int = 0
    hours: float = 0.0


Cells = Mapping[tuple[str, str], _Cell]


def blamed(lives: Iterable[Life], sound: Collection[str], now: float) -> Mapping[str, Blame]:
    """For each revision of which a replica crashed within a day. `sound` are the nodes that live: a replica that went
    with its node is nobody's crash but the node's."""
    known = [life for life in lives if life.ended is None or now - life.ended < WINDOW_S]
    whole = rest = _cells(known, sound, now)
    found: dict[str, Blame] = {}
    while any(cell.crashes for cell in rest.values()):
        by_version, by_node = (_odds(rest, place, prior) for place, prior in ((0, PRIOR_VERSION), (1, PRIOR_NODE)))
        for revision, odds in by_version.items():
            found[revision] = _blame(revision, _share(odds, by_node.values()), whole, known)
        explained = ((odds, place, name) for place, of in ((0, by_version), (1, by_node)) for name, odds in of.items())
        best, place, name = max(explained, key=lambda one: (one[0], -one[1]))
        if best <= 0.0:
            break
        rest = {where: cell for where, cell in rest.items() if where[place] != name}
    return found


def _odds(cells: Cells, place: int, prior: float) -> Mapping[str, float]:
    """Name -> log odds of a fault of each version (`place` 0) or node (1) that had a crash, against chance."""
    names = sorted({where[place] for where, cell in cells.items() if cell.crashes})
    return {name: _log_odds(cells, [where for where in cells if where[place] == name], prior) for name in names}


def _share(log_odds: float, others: Collection[float]) -> float:
    """Probability of an explanation beside chance and these others."""
    most = max(0.0, log_odds, *others)
    total = math.exp(-most) + math.exp(log_odds - most) + sum(math.exp(other - most) for other in others)
    return math.exp(log_odds - most) / total


def _blame(revision: str, probability: float, cells: Cells, lives: Collection[Life]) -> Blame:
    own = [cell for (r, _), cell in cells.items() if r == revision]
    crashes, hours, hit = sum(c.crashes for c in own), sum(c.hours for c in own), sum(c.crashes > 0 for c in own)
    alive = sum(life.revision == revision and life.ended is None for life in lives)
    per_s = max(alive, hit) * (FAULT[0] + crashes) / (FAULT[1] + hours) / HOUR_S
    return Blame(revision, probability, crashes, sum(c.crashes > 1 for c in own), per_s)


def remedy_for(blame: Blame) -> Choice:
    """Whether the version is better rolled back, by expected cost over the next hour."""
    cost = blame.per_s * HOUR_S * RESTART_S
    suspicion = Suspicion(
        0.0, version=blame.probability, bad_nodes_of_version=blame.nodes, version_cost_slot_s=cost
    )  # fmt: skip
    return choose(suspicion, Workload(), Prices(HOUR_S, roll_back_slot_s=ROLL_BACK_SLOT_S, may_drain=False))


def _cells(lives: Iterable[Life], sound: Collection[str], now: float) -> Cells:
    crashes: dict[tuple[str, str], int] = defaultdict(int)
    hours: dict[tuple[str, str], float] = defaultdict(float)
    for life in lives:
        where, until = (life.revision, life.node), now if life.ended is None else life.ended
        hours[where] += max(0.0, until - max(life.began, now - WINDOW_S)) / HOUR_S
        crashes[where] += life.has_crashed and life.node in sound and now - until >= GRACE_S
    return {where: _Cell(crashes[where], spent) for where, spent in hours.items()}


def _log_odds(cells: Cells, own: Collection[tuple[str, str]], prior: float) -> float:
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
