"""How long the gaps between beats of a living node are: its own mean and spread, shrunk towards the fleet's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

Floats = NDArray[np.float64]
Slots = NDArray[np.intp]

PSEUDO_BEATS = 20.0  # of the fleet's in each node's estimate: it rules in the first 20 beats and is forgotten after 200
FORGET = 0.01  # weight of a new gap once a node is known: a memory of about a hundred beats
CLIP = 4.0  # a gap counts for at most so many spreads, lest one freeze make its node invisible for a hundred beats
PEAK_FORGET = 0.0005  # the longest pause is remembered for two thousand beats: pauses are rare, and repeat by node
PEAK_SPREADS = 0.25  # of the longest pause, as a spread: the pause itself is then four spreads out


class GapModel:
    """Mean and variance of gaps in periods, exponentially weighted and winsorised (Huber 1964), one pair a slot."""

    def __init__(self, *, pause_periods: float, restless_periods: float, capacity: int) -> None:
        self._pause = pause_periods
        self._restless = restless_periods
        self._mean: Floats = np.ones(capacity)
        self._variance: Floats = np.zeros(capacity)
        self._count: Floats = np.zeros(capacity)
        self._peak: Floats = np.zeros(capacity)
        """The longest gap's excess over the mean, fading."""

    def grow(self, capacity: int) -> None:
        more = capacity - len(self._mean)
        self._mean = np.concatenate([self._mean, np.ones(more)])
        self._variance = np.concatenate([self._variance, np.zeros(more)])
        self._count = np.concatenate([self._count, np.zeros(more)])
        self._peak = np.concatenate([self._peak, np.zeros(more)])

    def forget(self, slots: Slots | int) -> None:
        self._mean[slots], self._variance[slots], self._count[slots], self._peak[slots] = 1.0, 0.0, 0.0, 0.0

    def learn(self, slots: Slots, gaps: Floats) -> None:
        """Take in one gap, in periods, of each of the distinct `slots`.

        West (1979): the mean moves by w of the error e, the variance becomes (1 - w)(v + w e^2).
        """
        spread = np.maximum(np.sqrt(self._variance[slots]), self._pause)
        error = np.minimum(gaps, self._mean[slots] + CLIP * spread) - self._mean[slots]
        self._peak[slots] = np.maximum(self._peak[slots] * (1.0 - PEAK_FORGET), error)
        self._count[slots] += 1.0
        weight = np.maximum(1.0 / (self._count[slots] + 1.0), FORGET)
        self._mean[slots] += weight * error
        self._variance[slots] = (1.0 - weight) * (self._variance[slots] + weight * error * error)

    def spread(self, slots: Slots) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the gaps of `slots`, in periods, with the fleet's as prior."""
        known = self._count > 0
        mean = float(self._mean[known].mean()) if known.any() else 1.0
        variance = float(self._variance[known].mean()) if known.any() else 0.0
        own = np.minimum(self._count[slots], 1.0 / FORGET)
        share = own / (own + PSEUDO_BEATS)
        means = share * self._mean[slots] + (1.0 - share) * mean
        variances = share * self._variance[slots] + (1.0 - share) * variance
        spreads = np.maximum(np.sqrt(variances), PEAK_SPREADS * self._peak[slots])
        return means, np.clip(spreads, self._pause, self._restless)

    def phi(self, slots: Slots, silence: Floats) -> Floats:
        """-log10 P(gap > silence | alive) of normal gaps: the accrual of Hayashibara et al. (SRDS 2004), eq. 4.

        The spread is at least the pause allowed to any living node: that of the rare pauses nobody has shown yet.
        """
        means, spreads = self.spread(slots)
        return np.asarray(-log_ndtr(-(silence - means) / spreads) / np.log(10.0))
