"""Bets on uniform ranks, and the detector that they feed: its false alarms are rare by theorem, not by tuning.

Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection" (2023): a
Shiryaev-Roberts sum of likelihood ratios is, while nothing changes, expected to be at most the number of rows; stopped
at `A` it raises its first alarm after `A` rows or more on average. A weighted mean of such sums is one again, so that
many streams and many ways to change need no further correction. On conformal ranks: Volkhonskiy and others, "Inductive
conformal martingales for change-point detection" (2017).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from platformops.observation.drift.records import Floats

SHIFTS = (-1.2, -0.6, -0.3, 0.3, 0.6, 1.2)
"""Changes of the mean that are bet on, in standard deviations. Much smaller ones lose against every bet on purpose:
re-encoded pictures and rounded numbers differ from the reference as well, and nobody should retrain for that."""
SCALES = (0.5, 0.7, 1.4, 2.0)
"""Changes of the spread that are bet on, as ratios."""
NUM_BETS = len(SHIFTS) + len(SCALES)
MOST = 1e200
"""A sum is cut here, far above any threshold, before it overflows."""


def factors(ranks: Floats) -> Floats:
    """By how much each bet multiplies its stake: shape of `ranks` and one axis of NUM_BETS; 1 where a rank is NaN.

    The densities of ranks after a normal variable has moved by a shift, or grown by a scale; each integrates to 1.
    """
    score = ndtri(ranks)
    logs = [shift * score - shift * shift / 2 for shift in SHIFTS]
    logs += [score * score / 2 * (1 - 1 / (scale * scale)) - math.log(scale) for scale in SCALES]
    return np.asarray(np.exp(np.nan_to_num(np.stack(logs, axis=-1), nan=0.0)))


class Detector:
    """Sums of all streams and bets, one row at a time."""

    __slots__ = ("_begun", "_rows", "_since", "_sums", "_tops", "_weights")

    def __init__(self, weights: Floats) -> None:
        """`weights` of the streams sum to 1."""
        self._weights = weights
        self._rows = 0
        self.reset()

    def reset(self) -> None:
        """Forget the evidence so far."""
        shape = (len(self._weights), NUM_BETS)
        self._sums = np.zeros(shape)
        self._tops = np.ones(shape)
        self._since = np.full(shape, self._rows)

    def add(self, factors: Floats, seen: Floats) -> float:
        """Log evidence after one more row; `factors` by stream and bet, `seen` 1 for the streams that had a value."""
        self._sums = np.minimum((self._sums + seen[:, None]) * factors, MOST)
        # A stake that fell below 1 is better placed anew: where the best excursion began is where the change began.
        fresh = self._tops < 1.0
        self._since[fresh] = self._rows
        self._tops = np.minimum(np.where(fresh, 1.0, self._tops) * factors, MOST)
        self._rows += 1
        return math.log(max(float(self._weights @ self._sums.mean(axis=1)), 1e-300))

    def strongest(self) -> tuple[int, int, float]:
        """Index of the stream with the most evidence, the row since which, and its log evidence by itself."""
        each = self._weights * self._sums.mean(axis=1)
        stream = int(np.argmax(each))
        bet = int(np.argmax(self._tops[stream]))
        return stream, int(self._since[stream, bet]), math.log(max(float(self._sums[stream].mean()), 1e-300))

    def evidence(self) -> Floats:
        """Log evidence of each stream by itself."""
        return np.asarray(np.log(np.maximum(self._sums.mean(axis=1), 1e-300)))
