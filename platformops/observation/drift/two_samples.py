"""How a window differs from the reference, column by column and as a whole: for people, once a change is confirmed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from platformops.observation.drift.records import Contrast, Floats

BINS = 10
PSEUDO_COUNT = 0.5
"""Added to each bin, so that an empty one gives a finite index."""
FEW_VALUES = 20
"""Numbers that take at most so many values are compared by their counts."""
ALPHA = 0.01


def contrasts(reference: pd.DataFrame, now: pd.DataFrame, *, look: int = 1, alpha: float = ALPHA) -> list[Contrast]:
    """One for each column, the most different first.

    `look` counts from 1: the k-th look at one system is granted alpha * 6 / (pi k)^2, which over all looks sums to
    `alpha`, and columns share it alike (Bonferroni). Missing values are compared by their rate, in the same p-value.
    """
    granted = alpha * 6.0 / (math.pi * look) ** 2 / max(1, len(reference.columns))
    found = [_contrast(str(name), reference[name], now[name], granted) for name in reference.columns]
    return sorted(found, key=lambda c: (c.p_value, -c.psi, c.name))


def _contrast(name: str, before: pd.Series, now: pd.Series, granted: float) -> Contrast:
    is_number = pd.api.types.is_numeric_dtype(before) and not pd.api.types.is_bool_dtype(before)
    old, new = before.dropna(), now.dropna()
    gone = _p_of_counts(np.array([[before.isna().sum(), len(old)], [now.isna().sum(), len(new)]], float))
    distance = math.nan
    if is_number and old.nunique() > FEW_VALUES:
        a, b = old.to_numpy(np.float64), new.to_numpy(np.float64)
        test, (statistic, p_value) = "KS", _ks(a, b)
        distance, psi = wasserstein(a, b), population_stability(*_binned(a, b))
    else:
        counts = _counted(old.astype(str).to_numpy(), new.astype(str).to_numpy())
        test, p_value, psi = "chi-squared", _p_of_counts(np.stack(counts)), population_stability(*counts)
        statistic = _chi_squared(np.stack(counts))
    p_value = min(1.0, 2 * min(p_value, gone))
    rates = float(before.isna().mean()), float(now.isna().mean())
    return Contrast(name, test, statistic, p_value, psi, distance, *rates, p_value <= granted)


def population_stability(before: Floats, now: Floats) -> float:
    """PSI of two counts over the same bins: the symmetrised Kullback-Leibler divergence of their shares (Jeffreys 1946;
    Yurdakul and Naranjo 2020 for its distribution). 0 for equal shares."""
    p = (before + PSEUDO_COUNT) / (before + PSEUDO_COUNT).sum()
    q = (now + PSEUDO_COUNT) / (now + PSEUDO_COUNT).sum()
    return float(np.sum((q - p) * np.log(q / p)))


def wasserstein(before: Floats, now: Floats) -> float:
    """How far the values moved on average, in standard deviations of `before`; NaN when one has no values."""
    if not len(before) or not len(now):
        return math.nan
    spread = float(before.std()) or 1.0
    return float(stats.wasserstein_distance(before, now)) / spread


@dataclass(frozen=True, slots=True)
class Separability:
    """How well a classifier tells new rows from reference rows: 0.5 is not at all, 1 is perfectly."""

    auc: float
    p_value: float


def separability(reference: Floats, now: Floats, *, seed: int = 0) -> Separability:
    """Classifier two-sample test of rows of numbers; NaN is a value of its own.

    Fitted on every second row of both and judged on the others, whose scores are independent of the fit, so that the
    Mann-Whitney test of them is exact up to its normal approximation (Lopez-Paz and Oquab, ICLR 2017).
    """
    from sklearn.ensemble import RandomForestClassifier

    rows = np.concatenate([reference, now])
    is_new = np.concatenate([np.zeros(len(reference)), np.ones(len(now))])
    fit, judge = np.arange(len(rows)) % 2 == 0, np.arange(len(rows)) % 2 == 1
    if min(is_new[fit].sum(), is_new[judge].sum(), (1 - is_new)[fit].sum(), (1 - is_new)[judge].sum()) < 10:
        return Separability(0.5, 1.0)
    model = RandomForestClassifier(60, min_samples_leaf=8, random_state=seed)
    scores = model.fit(rows[fit], is_new[fit]).predict_proba(rows[judge])[:, 1]
    new, old = scores[is_new[judge] == 1], scores[is_new[judge] == 0]
    test = stats.mannwhitneyu(new, old, alternative="greater")
    return Separability(float(test.statistic) / (len(new) * len(old)), float(test.pvalue))


def _ks(before: Floats, now: Floats) -> tuple[float, float]:
    if not len(before) or not len(now):
        return 0.0, 1.0
    found = stats.ks_2samp(before, now, method="asymp")
    return float(found.statistic), float(found.pvalue)


def _binned(before: Floats, now: Floats) -> tuple[Floats, Floats]:
    """Counts between the deciles of `before`."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1])) if len(before) else np.array([0.0])
    size = len(edges) + 1
    old = np.bincount(np.searchsorted(edges, before), minlength=size)
    new = np.bincount(np.searchsorted(edges, now), minlength=size)
    return old.astype(np.float64), new.astype(np.float64)


def _counted(before: np.ndarray, now: np.ndarray) -> tuple[Floats, Floats]:
    names = np.unique(np.concatenate([before, now]))
    old = np.array([(before == name).sum() for name in names], np.float64)
    new = np.array([(now == name).sum() for name in names], np.float64)
    return old, new


def _kept(table: Floats) -> Floats:
    return table[:, table.sum(axis=0) > 0]


def _chi_squared(table: Floats) -> float:
    kept = _kept(table)
    if kept.shape[1] < 2 or (kept.sum(axis=1) == 0).any():
        return 0.0
    return float(stats.chi2_contingency(kept, correction=False).statistic)


def _p_of_counts(table: Floats) -> float:
    kept = _kept(table)
    if kept.shape[1] < 2 or (kept.sum(axis=1) == 0).any():
        return 1.0
    return float(stats.chi2_contingency(kept).pvalue)
