"""Learns a FusedModel from decided cases: conditional likelihood ratios by backfitting, then weights by ridge logistic.

The names are those of the model: `rows` cases, each with the hazard's prior, its readings and whether it failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from platformops.health.fusion import FusedModel, logits
from platformops.health.ratios import (
    LARGEST_LOG_RATIO,
    Array,
    Curve,
    Places,
    Table,
    cells,
    choose_knots,
    places,
    ratio_step,
    summed,
)
from platformops.health.risk import Signal


@dataclass(frozen=True, slots=True)
class Cases:
    """Decided cases, each array of shape (rows,)."""

    failed: Array
    """1.0 where the node failed within the horizon, else 0.0."""
    priors: Array
    columns: Mapping[str, Array]

    def where(self, chosen: NDArray[np.bool_]) -> Cases:
        return Cases(self.failed[chosen], self.priors[chosen], {k: v[chosen] for k, v in self.columns.items()})


@dataclass(frozen=True, slots=True)
class LearningParams:
    shrink: float = 2.0
    """Expected failures that a bin must have before it is half believed."""
    num_rounds: int = 8
    pace_ratio: float = 0.5
    """Share of each step that is taken: correlated signals then divide a common cause between them."""
    ridge: float = 20.0
    """Pull of the weights towards 1, in cases."""
    largest_weight: float = 1.5
    num_pairs: int = 0
    """Tables of two signals, chosen by the likelihood that they add."""
    pair_knots: int = 5


@dataclass(slots=True)
class _Fitting:
    """A signal's curve while it is fitted."""

    signal: Signal
    knots: tuple[float, ...]
    at: Places
    curve: Array


def learn(
    cases: Cases, signals: Sequence[Signal], *, horizon_s: float, params: LearningParams = LearningParams()
) -> FusedModel:
    """The model of `cases`.

    Curves by cyclic backfitting (Hastie & Tibshirani, Generalized Additive Models, 1990, section 4.4) of
    observed/expected ratios; pairs greedily as in Lou et al. (KDD 2013, "Accurate intelligible models with pairwise
    interactions").
    """
    curves = [_fitting(signal, cases.columns[signal.name], cases.failed) for signal in signals]
    odds = logits(cases.priors)
    for _ in range(params.num_rounds):
        odds = odds + np.log(cases.failed.sum() / _sigmoids(odds).sum())
        for fitting in curves:
            odds = _improve(fitting, odds, cases.failed, params)
    tables, odds = _learn_tables(cases, signals, odds, params)
    parts = [f.at.values(f.curve) for f in curves] + [values for _, values in tables]
    bias, prior_weight, weights = _weigh(logits(cases.priors), parts, cases.failed, params)
    n = len(curves)
    return FusedModel(
        horizon_s,
        bias,
        prior_weight,
        tuple(Curve(f.signal, f.knots, tuple(float(v) for v in f.curve)) for f in curves),
        weights[:n],
        tuple(table for table, _ in tables),
        weights[n:],
    )


def _fitting(signal: Signal, values: Array, failed: Array) -> _Fitting:
    knots = choose_knots(signal, values, failed)
    return _Fitting(signal, knots, places(signal, knots, values), np.zeros(len(knots) + 2))


def _improve(fitting: _Fitting, odds: Array, failed: Array, params: LearningParams) -> Array:
    size = len(fitting.curve)
    expected = fitting.at.totals(_sigmoids(odds), size)
    before = fitting.curve
    alone = expected * np.exp(-before)  # what the rest would expect without this signal: else each round shrinks less
    aim = ratio_step(fitting.at.totals(failed, size), alone, shrink=params.shrink)
    step = params.pace_ratio * (aim - before)
    fitting.curve = np.where(expected > 0.0, before + step, 0.0)
    # Measured against the average row, so that each ratio can be read by itself; what all rows share is the bias.
    fitting.curve[expected > 0.0] -= fitting.at.values(fitting.curve).mean()
    fitting.curve = np.clip(fitting.curve, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    moved: Array = odds + fitting.at.values(fitting.curve - before)
    return moved


def _learn_tables(
    cases: Cases, signals: Sequence[Signal], odds: Array, params: LearningParams
) -> tuple[list[tuple[Table, Array]], Array]:
    """The tables that add most, one after the other, each with its log ratios at the rows."""
    found: list[tuple[Table, Array]] = []
    if not params.num_pairs:
        return found, odds
    cuts = {s.name: _cuts(s, cases.columns[s.name], cases.failed, params.pair_knots) for s in signals}
    at = {s.name: cells(s, cuts[s.name], cases.columns[s.name]) for s in signals}
    for first, second in _best_pairs(signals, cuts, at, _sigmoids(odds), cases.failed, params):
        width = len(cuts[second.name]) + 2
        size = (len(cuts[first.name]) + 2) * width
        cell = at[first.name] * width + at[second.name]
        observed = summed(cell, cases.failed, size)
        curve = ratio_step(observed, summed(cell, _sigmoids(odds), size), shrink=params.shrink)
        curve = np.clip(curve, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
        ratios = tuple(float(v) for v in curve)
        found.append((Table(first, second, cuts[first.name], cuts[second.name], ratios), curve[cell]))
        odds = odds + curve[cell]
    return found, odds


def _cuts(signal: Signal, values: Array, failed: Array, num_knots: int) -> tuple[float, ...]:
    return choose_knots(Signal(signal.name, signal.words, num_knots, signal.is_category), values, failed)[1:]


def _best_pairs(
    signals: Sequence[Signal],
    cuts: Mapping[str, tuple[float, ...]],
    at: Mapping[str, NDArray[np.int64]],
    probabilities: Array,
    failed: Array,
    params: LearningParams,
) -> list[tuple[Signal, Signal]]:
    gains = []
    for i, first in enumerate(signals):
        for second in signals[i + 1 :]:
            width = len(cuts[second.name]) + 2
            cell = at[first.name] * width + at[second.name]
            size = (len(cuts[first.name]) + 2) * width
            observed, expected = summed(cell, failed, size), summed(cell, probabilities, size)
            step = ratio_step(observed, expected, shrink=params.shrink)
            gains.append((float((observed * step - expected * np.expm1(step)).sum()), first, second))
    gains.sort(key=lambda g: (-g[0], g[1].name, g[2].name))
    return [(first, second) for _, first, second in gains[: params.num_pairs]]


def _weigh(
    prior_odds: Array, parts: Sequence[Array], failed: Array, params: LearningParams
) -> tuple[float, float, tuple[float, ...]]:
    """Bias, the prior's weight and those of the parts: logistic regression with a Gaussian prior of mean 1 on weights.

    Maximum a posteriori (Bishop, PRML, section 4.5), each weight within 0 to `largest_weight`, so that no evidence is
    ever turned into its opposite.
    """
    matrix = np.column_stack([prior_odds, *parts])

    def loss(v: Array) -> tuple[float, Array]:
        odds = matrix @ v[1:] + v[0]
        residual = _sigmoids(odds) - failed
        penalty = params.ridge * (v[1:] - 1.0)
        value = np.logaddexp(0.0, odds).sum() - failed @ odds + penalty @ (v[1:] - 1.0) / 2.0
        return float(value), np.concatenate([[residual.sum()], matrix.T @ residual + penalty])

    start = np.concatenate([[0.0], np.ones(matrix.shape[1])])
    bounds = [(-4.0, 4.0), *[(0.0, params.largest_weight)] * matrix.shape[1]]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}).x
    return float(found[0]), float(found[1]), tuple(float(w) for w in found[2:])


def _sigmoids(odds: Array) -> Array:
    result: Array = 1.0 / (1.0 + np.exp(-odds))
    return result
