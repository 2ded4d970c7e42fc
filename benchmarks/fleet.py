"""A fleet that exists only in memory: nodes with published failure rates, lemons, bursts, and signs before failures.

The rates: 6.5 failures per 1,000 node-days (Kokolis et al., HPCA 2025), hazards Gamma(2) over nodes, 1.5 % lemons with
12 times the mean, 12 % of failures hang instead of crash. That 60 % of failures show themselves, with a lognormal lead
(median 45 min, sigma 1), that benign bursts of the same signals are three times as common as failures, and how both
look, are assumptions: no public data set holds telemetry and failures of training nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from platformops.health.fusion import FusedModel
from platformops.health.hazard import DAY_S, failure_probability
from platformops.health.learning import Cases, learn
from platformops.health.ratios import Array
from platformops.health.risk import Signal

HORIZON_S = 4.0 * 3600.0
SIGNALS = (
    Signal("errors", "corrected errors in 10 min"),
    Signal("slow", "deviations of its step time from its peers"),
)


@dataclass(frozen=True, slots=True)
class Rates:
    per_1000_node_days: float = 6.5
    lemon_ratio: float = 0.015
    lemon_times: float = 12.0
    hang_ratio: float = 0.12
    burst_ratio: float = 0.1
    """Failures that take neighbours down with them (LANL: 7.5 to 20 % come with another's)."""
    foreseeable_ratio: float = 0.6
    lead_median_s: float = 2700.0
    lead_sigma: float = 1.0
    benign_per_1000_node_days: float = 20.0
    benign_s: float = 7200.0


class Kind(Enum):
    CRASH = "crash"
    HANG = "hang"
    SIGNS = "signs"
    BENIGN = "benign"
    LOOK = "look"
    """What shows something is read again."""
    REPAIRED = "repaired"
    HOUR = "hour"


@dataclass(frozen=True, slots=True, order=True)
class Happening:
    at: float
    number: int
    kind: Kind = field(compare=False)
    node: int = field(compare=False, default=-1)
    life: int = field(compare=False, default=0)
    """Of the node: what was scheduled for an earlier life of it does not happen."""


class World:
    """Nodes and what will befall them, drawn from `rng`; only nodes that carry load fail."""

    def __init__(self, num_nodes: int, rates: Rates, rng: np.random.Generator, now: float) -> None:
        self.rates, self.rng, self.num_nodes = rates, rng, num_nodes
        self.hazards = self._draw(num_nodes)
        self.lives = [0] * num_nodes
        self._queue: list[Happening] = []
        self._number = 0
        self.later(now + 3600.0, Kind.HOUR)

    def load(self, node: int, now: float) -> None:
        """The node starts to carry load: its next failure, the signs before it and a benign burst are drawn."""
        self.lives[node] += 1
        fails_at = now + self.rng.exponential(1.0 / self.hazards[node])
        kind = Kind.HANG if self.rng.random() < self.rates.hang_ratio else Kind.CRASH
        self.later(fails_at, kind, node)
        if self.rng.random() < self.rates.foreseeable_ratio:
            lead_s = self.rates.lead_median_s * self.rng.lognormal(0.0, self.rates.lead_sigma)
            self.later(max(now, fails_at - lead_s), Kind.SIGNS, node)
        self.benign(node, now)

    def benign(self, node: int, now: float) -> None:
        """Draws the node's next burst that means nothing."""
        wait_s = self.rng.exponential(1000.0 * DAY_S / self.rates.benign_per_1000_node_days)
        self.later(now + wait_s, Kind.BENIGN, node)

    def renew(self, node: int) -> None:
        """Another machine in the node's place, from the same factory."""
        self.hazards[node] = float(self._draw(1)[0])

    def _draw(self, num: int) -> Array:
        rates = self.rates
        lemons = self.rng.random(num) < rates.lemon_ratio
        mean = 1.0 + rates.lemon_ratio * (rates.lemon_times - 1.0)
        rate = rates.per_1000_node_days / 1000.0 / DAY_S
        return np.where(lemons, rates.lemon_times, 1.0) * self.rng.gamma(2.0, 0.5, num) / mean * rate

    def unload(self, node: int) -> None:
        self.lives[node] += 1

    def later(self, at: float, kind: Kind, node: int = -1) -> None:
        self._number += 1
        life = self.lives[node] if node >= 0 else 0
        heapq.heappush(self._queue, Happening(at, self._number, kind, node, life))

    def next(self) -> Happening:
        while True:
            found = heapq.heappop(self._queue)
            if found.node < 0 or found.kind is Kind.REPAIRED or self.lives[found.node] == found.life:
                return found

    def readings(self, kind: Kind) -> Mapping[str, float | None]:
        columns = draw_readings(self.rng, np.asarray([_LOOKS[kind]]))
        return {name: float(values[0]) for name, values in columns.items()}


_LOOKS = {Kind.HOUR: 0, Kind.BENIGN: 1, Kind.SIGNS: 2}


def draw_readings(rng: np.random.Generator, looks: Array) -> dict[str, Array]:
    """Signals of nodes that are quiet (0), in a benign burst (1) or about to fail (2)."""
    code = looks.astype(np.int64)
    mean_errors = np.asarray([0.2, 8.0, 20.0])[code] * np.where(code > 0, rng.gamma(2.0, 0.5, len(code)), 1.0)
    slow = np.asarray([0.0, 0.5, 4.0])[code] + rng.normal(size=len(code))
    return {"errors": rng.poisson(mean_errors).astype(np.float64), "slow": slow}


def learn_from_history(rates: Rates, rng: np.random.Generator, *, num_cases: int = 400_000) -> FusedModel:
    """The model that another fleet of the same kind would have taught: cases at random instants."""
    rate = rates.per_1000_node_days / 1000.0 / DAY_S
    left_s = rng.exponential(1.0 / rate, num_cases)
    failed = left_s < HORIZON_S
    lead_s = rates.lead_median_s * rng.lognormal(0.0, rates.lead_sigma, num_cases)
    shows = (rng.random(num_cases) < rates.foreseeable_ratio) & (lead_s > left_s)
    in_burst = rng.random(num_cases) < rates.benign_per_1000_node_days / 1000.0 / DAY_S * rates.benign_s
    looks = np.where(shows, 2, np.where(in_burst, 1, 0)).astype(np.float64)
    priors = np.full(num_cases, failure_probability(rate * HORIZON_S))
    return learn(Cases(failed.astype(np.float64), priors, draw_readings(rng, looks)), SIGNALS, horizon_s=HORIZON_S)
