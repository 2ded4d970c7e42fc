"""Bayes' theorem in log odds: the hazard's prior, the weighted likelihood ratios of what was read, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from platformops.health.ratios import Array, Curve, Table, cells, places
from platformops.health.risk import Readings, Risk, Signal, Term, logit, sigmoid

SMALLEST = 1e-9
"""Priors are kept this far from 0 and 1: no evidence could move a certainty."""


@dataclass(frozen=True, slots=True)
class FusedModel:
    """What was learnt. The log odds are `bias + prior_weight * logit(prior) + sum of weight * log ratio`.

    The weights undo the double counting of signals that share a cause, which ruins naive Bayes (Hand & Yu, Idiot's
    Bayes, International Statistical Review 69, 2001); they and `bias` are a logistic recalibration (Platt, 1999).
    """

    horizon_s: float
    bias: float
    prior_weight: float
    curves: tuple[Curve, ...]
    weights: tuple[float, ...]
    tables: tuple[Table, ...] = ()
    table_weights: tuple[float, ...] = ()

    def judge(self, prior: float, readings: Readings) -> Risk:
        """The risk of one node, each term in words. `prior` is the hazard's probability of a failure in the horizon."""
        terms = [
            _term((c.signal,), c.at(readings.get(c.signal.name)), w, readings)
            for c, w in zip(self.curves, self.weights, strict=True)
        ]
        for table, weight in zip(self.tables, self.table_weights, strict=True):
            log_ratio = table.at(readings.get(table.first.name), readings.get(table.second.name))
            terms.append(_term((table.first, table.second), log_ratio, weight, readings))
        odds = self._base(prior) + sum(t.log_odds for t in terms)
        strongest = tuple(sorted(terms, key=lambda t: (-abs(t.log_odds), t.signals)))
        return Risk(sigmoid(odds), self.horizon_s, prior, strongest)

    def log_odds(self, prior: float, readings: Readings) -> float:
        """The same without words, for every node of a fleet at every tick."""
        odds = self._base(prior)
        for curve, weight in zip(self.curves, self.weights, strict=True):
            odds += weight * curve.at(readings.get(curve.signal.name))
        for table, weight in zip(self.tables, self.table_weights, strict=True):
            odds += weight * table.at(readings.get(table.first.name), readings.get(table.second.name))
        return odds

    def probabilities(self, priors: Array, columns: Mapping[str, Array]) -> Array:
        """The same for many rows: priors and columns of shape (rows,), NaN where a reading is missing."""
        odds = self.bias + self.prior_weight * logits(priors)
        for curve, weight in zip(self.curves, self.weights, strict=True):
            at = places(curve.signal, curve.knots, columns[curve.signal.name])
            odds += weight * at.values(np.asarray(curve.log_ratios))
        for table, weight in zip(self.tables, self.table_weights, strict=True):
            row = cells(table.first, table.first_cuts, columns[table.first.name])
            cell = row * (len(table.second_cuts) + 2)
            cell += cells(table.second, table.second_cuts, columns[table.second.name])
            odds += weight * np.asarray(table.log_ratios)[cell]
        result: Array = 1.0 / (1.0 + np.exp(-odds))
        return result

    def _base(self, prior: float) -> float:
        return self.bias + self.prior_weight * logit(min(max(prior, SMALLEST), 1.0 - SMALLEST))


def logits(probabilities: Array) -> Array:
    kept = np.clip(probabilities, SMALLEST, 1.0 - SMALLEST)
    result: Array = np.log(kept / (1.0 - kept))
    return result


def _term(signals: tuple[Signal, ...], log_ratio: float, weight: float, readings: Readings) -> Term:
    said = " and ".join(f"{s.words} {_number(readings.get(s.name))}" for s in signals)
    ratio = math.exp(log_ratio)
    times = math.exp(weight * log_ratio)
    effect = f"{times:.3g} times the odds" if times >= 1.0 else f"odds divided by {1.0 / times:.3g}"
    return Term(tuple(s.name for s in signals), ratio, weight, f"{said}: {effect}")


def _number(value: float | None) -> str:
    return "not known" if value is None or value != value else f"{value:.4g}"
