"""How often a node fails: a Gamma-Poisson hazard pooled over its class, with recency, in failures a second."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400.0
HALF_LIFE_S = 90.0 * DAY_S
"""Failures and exposure older than this count half: machines age, are repaired and are moved."""
PUBLISHED_PER_S = 6.5 / 1000.0 / DAY_S
"""Failures of a node of Meta's RSC-1 (Kokolis et al., HPCA 2025): the prior until a fleet has its own history."""
RECENCY_S = DAY_S
RECENCY_FAILURES = 0.16
"""Further failures that one failure brings in all: 8 to 14 % of the LANL nodes that failed do so again within a day,
and 0.16 * (1 - 1/e) is 10 %."""


@dataclass(frozen=True, slots=True)
class HazardPrior:
    """Gamma(shape, exposure) over the hazards of a class of nodes; the mean is `shape / exposure_s`."""

    shape: float
    exposure_s: float

    @property
    def mean_per_s(self) -> float:
        return self.shape / self.exposure_s


PUBLISHED = HazardPrior(shape=1.0, exposure_s=1.0 / PUBLISHED_PER_S)


@dataclass(frozen=True, slots=True)
class NodeHistory:
    """A node's failures and the time it was watched, both discounted to `seen_at`."""

    seen_at: float
    failures: float = 0.0
    exposure_s: float = 0.0
    last_failure_at: float | None = None


def watched(history: NodeHistory, now: float, *, failures: int = 0, half_life_s: float = HALF_LIFE_S) -> NodeHistory:
    """The history after the node was watched until `now` and failed then `failures` times.

    Discounted counts: n = sum 2^(-age/h), e = integral of the same over the time watched (exponential forgetting, the
    discounted conjugate update of West & Harrison, Bayesian Forecasting and Dynamic Models, 1997, section 10.8).
    """
    passed_s = max(0.0, now - history.seen_at)
    kept = 2.0 ** (-passed_s / half_life_s)
    gained_s = half_life_s / math.log(2.0) * (1.0 - kept)
    last = now if failures else history.last_failure_at
    return NodeHistory(now, history.failures * kept + failures, history.exposure_s * kept + gained_s, last)


def hazard_per_s(history: NodeHistory, prior: HazardPrior, now: float) -> float:
    """Failures a second to expect of the node at `now`.

    (shape + n) / (exposure + e), the posterior mean of a Poisson rate under its conjugate Gamma prior (Gelman et al.,
    Bayesian Data Analysis, 3rd ed., section 2.6), plus a term that decays after a failure: the self-exciting hazard of
    Hawkes (Biometrika 58, 1971), which stands for the decreasing Weibull hazard seen in the LANL records (Schroeder &
    Gibson, DSN 2006).
    """
    rate = steady_per_s(history, prior)
    if history.last_failure_at is None:
        return rate
    age_s = max(0.0, now - history.last_failure_at)
    return rate + RECENCY_FAILURES / RECENCY_S * math.exp(-age_s / RECENCY_S)


def steady_per_s(history: NodeHistory, prior: HazardPrior) -> float:
    """The part of the hazard that stays: what tells a lemon from a node that has just failed."""
    return (prior.shape + history.failures) / (prior.exposure_s + history.exposure_s)


def expected_failures(history: NodeHistory, prior: HazardPrior, now: float, horizon_s: float) -> float:
    """The integral of `hazard_per_s` from `now` to the horizon: what follows a failure fades within days."""
    steady = steady_per_s(history, prior) * horizon_s
    if history.last_failure_at is None:
        return steady
    age_s = max(0.0, now - history.last_failure_at)
    return steady + RECENCY_FAILURES * math.exp(-age_s / RECENCY_S) * -math.expm1(-horizon_s / RECENCY_S)


def failure_probability(expected: float) -> float:
    """1 - exp(-expected): at least one event of a Poisson process of which so many are expected."""
    return -math.expm1(-expected)


def class_prior(histories: Iterable[NodeHistory], *, fallback: HazardPrior = PUBLISHED) -> HazardPrior:
    """The prior that a class's own histories give; `fallback` where they hold too little.

    Nodes that have left the fleet belong to the class as well: without them only those that did not fail remain.
    """
    pairs = [(h.failures, h.exposure_s) for h in histories if h.exposure_s > 0.0]
    if not pairs:
        return fallback
    counts, exposures = np.asarray(pairs, dtype=np.float64).T
    return fit_prior(counts, exposures, fallback=fallback)


def fit_prior(
    counts: NDArray[np.float64],
    exposures_s: NDArray[np.float64],
    *,
    fallback: HazardPrior = PUBLISHED,
    half_life_s: float = HALF_LIFE_S,
) -> HazardPrior:
    """Empirical Bayes by moments, from discounted counts and exposures (s), each of shape (nodes,).

    m = sum(n)/sum(e), v = (sum (n - m e)^2 - m sum e') / sum e^2, shape = m^2/v, exposure = shape/m: the mean and the
    variance in excess of Poisson's (Carlin & Louis, Bayes and Empirical Bayes Methods, section 3.5), where the variance
    of a discounted count is m e' with e' = e (1 - e ln 2 / 2h), the integral of the squared discount. The class's mean
    is itself shrunk to `fallback` by half a failure, so that a young class that has not failed yet is not called
    immortal; the shape is kept within 0.02 to 50.
    """
    mean = (float(counts.sum()) + 0.5) / (float(exposures_s.sum()) + 0.5 / fallback.mean_per_s)
    squared_s = exposures_s * (1.0 - exposures_s * math.log(2.0) / (2.0 * half_life_s))
    spread = float(((counts - mean * exposures_s) ** 2).sum()) - mean * float(squared_s.sum())
    excess = spread / float((exposures_s**2).sum())
    shape = float(np.clip(mean**2 / excess, 0.02, 50.0)) if excess > 0.0 else 50.0
    if len(counts) < MIN_NODES:
        shape = min(shape, fallback.shape)
    return HazardPrior(shape, shape / mean)


MIN_NODES = 8
"""A variance of fewer nodes than this says nothing about how alike they are."""
