"""Likelihood ratios of one signal or of a pair, learnt from observed against expected failures, shrunk and capped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platformops.health.risk import Signal

Array = NDArray[np.float64]
Index = NDArray[np.int64]
LARGEST_LOG_RATIO = 6.0
"""One broken sensor cannot convict alone."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where rows lie on a curve: between its entries `low` and `high`, `share` of the way. Entry 0 is "missing"."""

    low: Index
    high: Index
    share: Array

    def values(self, curve: Array) -> Array:
        """The curve at each row."""
        at_low: Array = curve[self.low]
        return at_low + self.share * (curve[self.high] - at_low)

    def totals(self, rows: Array, size: int) -> Array:
        """The rows' numbers, summed per entry of the curve and split between the two that a row lies between."""
        return summed(self.low, rows * (1.0 - self.share), size) + summed(self.high, rows * self.share, size)


@dataclass(frozen=True, slots=True)
class Curve:
    """Natural log of a signal's likelihood ratio at `knots`, linear in between on the scale of `squash`.

    A category's knots are its codes, and each has its ratio.
    """

    signal: Signal
    knots: tuple[float, ...]
    log_ratios: tuple[float, ...]
    """Two more than knots: the first is that of a missing reading, the last that of a category never seen."""

    def at(self, value: float | None) -> float:
        """The log ratio of one reading; beyond the outer knots that of the outer knot."""
        if value is None or value != value or not self.knots:
            return self.log_ratios[0]
        if self.signal.is_category:
            return self.log_ratios[1 + self.knots.index(value)] if value in self.knots else self.log_ratios[-1]
        x = squash(value)
        if x <= self.knots[0]:
            return self.log_ratios[1]
        for i in range(1, len(self.knots)):
            if x < self.knots[i]:
                share = (x - self.knots[i - 1]) / (self.knots[i] - self.knots[i - 1])
                return self.log_ratios[i] + share * (self.log_ratios[i + 1] - self.log_ratios[i])
        return self.log_ratios[len(self.knots)]


@dataclass(frozen=True, slots=True)
class Table:
    """Log ratios of two signals together: what one says depends on the other. Each side is cut at its knots."""

    first: Signal
    second: Signal
    first_cuts: tuple[float, ...]
    second_cuts: tuple[float, ...]
    log_ratios: tuple[float, ...]

    def at(self, first: float | None, second: float | None) -> float:
        row = _cell(self.first, self.first_cuts, first)
        return self.log_ratios[row * (len(self.second_cuts) + 2) + _cell(self.second, self.second_cuts, second)]


def summed(entries: Index, rows: Array, size: int) -> Array:
    """The rows' numbers, added up by entry; shape (size,)."""
    return np.bincount(entries, rows, size).astype(np.float64)


def squash(value: float) -> float:
    """sign(v) ln(1 + |v|): counters and ages matter by their order of magnitude."""
    return math.copysign(math.log1p(abs(value)), value)


def squashed(values: Array) -> Array:
    result: Array = np.sign(values) * np.log1p(np.abs(values))
    return result


def choose_knots(signal: Signal, values: Array, failed: Array | None = None) -> tuple[float, ...]:
    """Knots at quantiles of the readings, and of those where something happens: the readings of failed nodes if
    `failed` is given, else those that differ from the commonest (most counters are 0)."""
    known = _scaled(signal, values[~np.isnan(values)])
    distinct, counts = np.unique(known, return_counts=True)
    if signal.is_category or len(distinct) <= signal.num_knots:
        return tuple(float(v) for v in distinct)
    at = np.linspace(0.0, 1.0, signal.num_knots)
    chosen = np.quantile(known, at)
    rest = known[known != distinct[counts.argmax()]] if failed is None else known[failed[~np.isnan(values)] > 0.0]
    if signal.num_knots > 2 and len(rest):
        chosen = np.concatenate([chosen, np.quantile(rest, at)])
    return tuple(float(v) for v in np.unique(chosen))


def places(signal: Signal, knots: tuple[float, ...], values: Array) -> Places:
    """Where each of the readings, shape (rows,), lies on a curve with these knots."""
    missing = np.isnan(values)
    x = _scaled(signal, np.where(missing, 0.0, values))
    grid = np.asarray(knots, dtype=np.float64)
    if signal.is_category or len(knots) < 2:
        return _exact(grid, x, missing, is_category=signal.is_category)
    left = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(knots) - 2)
    share = np.clip((x - grid[left]) / (grid[left + 1] - grid[left]), 0.0, 1.0)
    low = np.where(missing, 0, left + 1).astype(np.int64)
    return Places(low, np.where(missing, 0, left + 2).astype(np.int64), np.where(missing, 0.0, share))


def cells(signal: Signal, cuts: tuple[float, ...], values: Array) -> Index:
    """The cell of each reading: 0 is missing, 1 lies below the first cut."""
    found = np.searchsorted(np.asarray(cuts), _scaled(signal, np.nan_to_num(values)), side="right") + 1
    return np.where(np.isnan(values), 0, found).astype(np.int64)


def ratio_step(observed: Array, expected: Array, *, shrink: float) -> Array:
    """ln((O + a) / (E + a)): by what the odds where O failures were observed and E expected are to be multiplied.

    It is the log of a likelihood ratio *given everything already taken into account*, since E sums the present
    probabilities; on the first step, from the base rate, it is Good's weight of evidence (Probability and the Weighing
    of Evidence, 1950). Adding `a` to both is the posterior mean of the ratio under a Gamma(a, a) prior (Gelman et al.,
    BDA, section 2.6): a bin with few failures stays near 1.
    """
    result: Array = np.log((observed + shrink) / (expected + shrink))
    return result


def _scaled(signal: Signal, values: Array) -> Array:
    return values if signal.is_category else squashed(values)


def _exact(grid: Array, x: Array, missing: NDArray[np.bool_], *, is_category: bool) -> Places:
    if not len(grid):
        nowhere = np.zeros(len(x), dtype=np.int64)
        return Places(nowhere, nowhere, np.zeros(len(x)))
    nearest = np.clip(np.searchsorted(grid, x), 0, len(grid) - 1)
    unseen = is_category & (grid[nearest] != x)
    entry = np.where(missing, 0, np.where(unseen, len(grid) + 1, nearest + 1)).astype(np.int64)
    return Places(entry, entry, np.zeros(len(x)))


def _cell(signal: Signal, cuts: tuple[float, ...], value: float | None) -> int:
    if value is None or value != value:
        return 0
    x = value if signal.is_category else squash(value)
    return 1 + sum(1 for cut in cuts if cut <= x)
