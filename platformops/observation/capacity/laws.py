"""Laws that any queueing system obeys, and the curve of throughput over concurrency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from platformops.observation.capacity.records import Interval, Measured

TOLERATED = 0.1
RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class LittleCheck:
    """Whether throughput, response time and concurrency agree."""

    expected: float
    """Throughput times mean response time."""
    in_flight: float
    is_consistent: bool
    reason: str


def little(point: Measured) -> LittleCheck:
    """`L = X R` (Little 1961) for a stretch of steady load: a point that breaks it was measured wrongly, or not in a
    steady state, and nothing should be fitted to it."""
    in_flight = point.in_flight if point.in_flight is not None else float(point.clients or 0)
    expected = point.throughput_per_s * point.mean_s
    gap = abs(expected - in_flight) / max(expected, in_flight, 1e-12)
    told = f"{point.throughput_per_s:,.0f}/s times {1e3 * point.mean_s:.2f} ms is {expected:.2f}"
    verdict = "agree" if gap <= TOLERATED else f"differ by {gap:.0%}"
    reason = f"{told} and {in_flight:.2f} were in flight: they {verdict}"
    return LittleCheck(expected, in_flight, gap <= TOLERATED, reason)


@dataclass(frozen=True, slots=True)
class Scalability:
    """`X(n) = rate n / (1 + contention (n - 1) + coherence n (n - 1))`."""

    rate_per_s: Interval
    """Of one client alone."""
    contention: Interval
    coherence: Interval

    def throughput_per_s(self, clients: float) -> float:
        waits = self.contention.value * (clients - 1) + self.coherence.value * clients * (clients - 1)
        return self.rate_per_s.value * clients / (1 + waits)

    @property
    def best_clients(self) -> float:
        """Beyond it more clients get less done; infinite without coherence cost."""
        if self.coherence.value <= 0:
            return math.inf
        return math.sqrt(max(0.0, 1 - self.contention.value) / self.coherence.value)


def scalability(clients: Sequence[float], throughput_per_s: Sequence[float], *, seed: int = 0) -> Scalability:
    """Universal Scalability Law (Gunther 1993; "Guerrilla Capacity Planning", 2007), fitted to three points or more.

    `n / X` is linear in its three terms, so that non-negative least squares on it, weighted to relative errors, finds
    the one best fit; intervals are from resampled points. Raises ValueError for fewer points.
    """
    n, x = np.asarray(clients, float), np.asarray(throughput_per_s, float)
    if len(np.unique(n)) < 3:
        raise ValueError(f"three concurrencies or more are needed, not {len(np.unique(n))}")
    fits = [_fit_law(n, x)]
    luck = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        chosen = luck.integers(0, len(n), len(n))
        if len(np.unique(n[chosen])) >= 3:
            fits.append(_fit_law(n[chosen], x[chosen]))
    rate, contention, coherence = (interval_of([fit[i] for fit in fits]) for i in range(3))
    return Scalability(rate, contention, coherence)


def interval_of(values: Sequence[float]) -> Interval:
    """The first value, between the quantiles of all."""
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(values[0], min(values[0], float(low)), max(values[0], float(high)))


def _fit_law(n: np.ndarray, x: np.ndarray) -> tuple[float, float, float]:
    wanted = n / x
    terms = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=1)
    (first, second, third), _ = nnls(terms / wanted[:, None], np.ones_like(n))
    first = max(first, 1e-12)
    return 1.0 / first, second / first, third / first
