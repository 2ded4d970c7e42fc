"""Anomalies of many metrics of one machine at once, against what the machine itself was like in a healthy stretch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import log1p

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]
SPREAD_FLOOR = 0.01  # metrics are scaled to about 0..1: a constant one that moves by a hundredth is no anomaly
RIDGE = 0.05  # of the correlation matrix: directions of less variance are noise of the fit
SMOOTHING = 0.2  # weight of a new score: an anomaly lasts longer than a sample
TOP = 5


class Kind(Enum):
    WHITENED = "whitened"
    """Squared Mahalanobis distance: breaks of the correlations between metrics."""
    TOP = "top"
    """Mean of the five largest deviations: a few metrics that go wrong by themselves."""


@dataclass(frozen=True, slots=True)
class View:
    kind: Kind
    memory: float | None
    """Weight of the running mean that is taken off first; None for the level itself."""


VIEWS = (View(Kind.WHITENED, None), View(Kind.TOP, None), View(Kind.TOP, 0.3), View(Kind.TOP, 1.0))
"""Level with correlations, level of single metrics, and jumps against the last three samples and the last one."""


@dataclass(frozen=True, slots=True)
class FittedView:
    view: View
    center: Floats
    spread: Floats
    rotation: Floats
    """Eigenvectors of the correlations, divided by the root of their eigenvalues and the ridge."""
    usual: float
    """Median of the log score of the healthy stretch."""
    rare: float
    """Its 99 % quantile less the median: the unit in which views are added."""


@dataclass(frozen=True, slots=True)
class VectorModel:
    """What a machine is like when healthy; two vectors and one matrix a view, whatever the length of the stretch."""

    views: tuple[FittedView, ...]
    means: tuple[Floats, ...]
    """Running mean of each view at the end of the stretch, for a scorer that goes on from there."""


def fit(healthy: Floats, views: tuple[View, ...] = VIEWS) -> VectorModel:
    """Fit on samples in rows, metrics in columns, of a stretch without (many) anomalies.

    Hotelling (1947): the distance of the correlation matrix, with a ridge. Each view's score is log(1 + d),
    brought to a common scale by its own quantiles, so that the views can be added: as squares of what is above the
    median, which one view that is far out decides, and two that are somewhat out together.
    """
    fitted = [_fit(healthy, view) for view in views]
    return VectorModel(tuple(one for one, _ in fitted), tuple(mean for _, mean in fitted))


def _fit(healthy: Floats, view: View) -> tuple[FittedView, Floats]:
    values, mean = healthy, np.zeros(healthy.shape[1])
    if view.memory is not None:
        start = (1.0 - view.memory) * healthy[:1]
        means = lfilter([view.memory], [1.0, -(1.0 - view.memory)], healthy, axis=0, zi=start)[0]
        values = healthy - np.concatenate([healthy[:1], means[:-1]])
        mean = means[-1]
    center, spread = values.mean(axis=0), values.std(axis=0) + SPREAD_FLOOR
    scaled = (values - center) / spread
    variances, vectors = np.linalg.eigh(np.atleast_2d(np.cov(scaled.T)))
    rotation = vectors / np.sqrt(np.maximum(variances, 0.0) + RIDGE)
    logs = np.log1p(_distances(view.kind, scaled, rotation))
    usual, rare = np.quantile(logs, [0.5, 0.99])
    return FittedView(view, center, spread, rotation, float(usual), float(rare - usual) + 1e-9), mean


def _distances(kind: Kind, scaled: Floats, rotation: Floats) -> Floats:
    if kind is Kind.WHITENED:
        return np.asarray(np.square(scaled @ rotation).sum(axis=-1))
    sizes = np.abs(scaled)
    top = min(TOP, sizes.shape[-1])
    return np.asarray(np.partition(sizes, -top, axis=-1)[..., -top:].mean(axis=-1))


class VectorScorer:
    """Scores samples as they come: near 0 for a usual one, 1 a view for what is seen once in a hundred."""

    __slots__ = ("_means", "_score", "_views")

    def __init__(self, model: VectorModel) -> None:
        self._views = model.views
        self._means = [mean.copy() for mean in model.means]
        self._score = 0.0

    def add(self, sample: Floats) -> float:
        """The smoothed score with `sample`, one value a metric, in it."""
        total = 0.0
        for at, one in enumerate(self._views):
            value = sample
            if one.view.memory is not None:
                value = sample - self._means[at]
                self._means[at] += one.view.memory * value
            distance = float(_distances(one.view.kind, (value - one.center) / one.spread, one.rotation))
            total += max(0.0, (log1p(distance) - one.usual) / one.rare) ** 2
        self._score += SMOOTHING * (total - self._score)
        return self._score
