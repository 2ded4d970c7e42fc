"""Cases to predict from recorded failures: what was known at fixed landmarks, and whether the node failed soon after.

Every column is computed from what lies before its landmark, and landmarks do not depend on outcomes: some records
are in start-stop form, whose rows do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platformops.health.hazard import HazardPrior, fit_prior
from platformops.health.learning import Cases
from platformops.health.ratios import Array, summed


@dataclass(frozen=True, slots=True)
class FailureSet:
    """Cases of one source, each array of shape (rows,)."""

    failed: Array
    columns: Mapping[str, Array]
    node_classes: NDArray[np.str_]
    groups: NDArray[np.int64]
    """Cases of one system, GPU, disk or machine stay on one side of a cross-validation."""
    priors: Array | None = None
    """From the nodes' own histories; None where the class's rate in the fitted cases is the prior."""
    reference: Array | None = None
    """The forecast to beat; None for the base rate of the cases themselves."""
    days: Array | None = None
    """Calendar time, where there is one: outcomes older than the horizon may recalibrate."""

    def cases(self, priors: Array) -> Cases:
        return Cases(self.failed, priors, self.columns)


def frozen_priors(fitted: FailureSet, other: FailureSet) -> Array:
    """The prior of each case of `other` from the rate of its class among the fitted cases, Gamma-Poisson pooled."""
    if other.priors is not None:
        return other.priors
    names, at = np.unique(fitted.node_classes, return_inverse=True)
    counts = summed(at, fitted.failed, len(names))
    sizes = np.bincount(at, minlength=len(names)).astype(np.float64)
    mean = float(fitted.failed.mean())
    pooled = fit_prior(counts, sizes, fallback=HazardPrior(1.0, 1.0 / mean), half_life_s=np.inf)
    prior = HazardPrior(min(pooled.shape, 5.0), min(pooled.shape, 5.0) / mean)
    rates = dict(zip(names, (prior.shape + counts) / (prior.exposure_s + sizes), strict=True))
    return np.asarray([rates.get(name, mean) for name in other.node_classes])


def counts_within(times: list[Array], landmarks: Array, window: float) -> Array:
    """Events of each node in (landmark - window, landmark], shape (landmarks, nodes)."""
    counted = [np.searchsorted(t, landmarks, "right") - np.searchsorted(t, landmarks - window, "right") for t in times]
    return np.stack(counted, axis=1).astype(np.float64)


def newest(times: Array, landmarks: Array) -> Array:
    """The newest event at each landmark; NaN before the first."""
    return np.concatenate([[np.nan], times])[np.searchsorted(times, landmarks, "right")]


def concatenated(parts: list[FailureSet]) -> FailureSet:
    def joined(name: str) -> Array | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    return FailureSet(
        np.concatenate([p.failed for p in parts]),
        {name: np.concatenate([p.columns[name] for p in parts]) for name in parts[0].columns},
        np.concatenate([p.node_classes for p in parts]),
        np.concatenate([p.groups for p in parts]),
        joined("priors"),
        joined("reference"),
        joined("days"),
    )
