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
PAUSE_FORGET = 0.0005  # pauses are remembered for two thousand beats: they are rare, and repeat by node
PAUSE_FROM = 0.5  # periods; a beat that its sender sent so much too late is a pause
LONGEST_PAUSE = 6.0  # periods; what is longer, or a clock that was set, says no more than that
PAUSE_PRIOR, PSEUDO_PAUSES = 0.2, 3.0  # mean excess in periods that a node is taken to have at first, and its weight
PAUSE_SPREADS = 2.6  # spreads granted for each period of mean excess


class GapModel:
    """Mean and variance of gaps in periods, exponentially weighted and winsorised (Huber 1964), one pair a slot."""

    def __init__(self, *, pause_periods: float, restless_periods: float, capacity: int) -> None:
        self._pause = pause_periods
        self._restless = restless_periods
        self._mean: Floats = np.ones(capacity)
        self._variance: Floats = np.zeros(capacity)
        self._count: Floats = np.zeros(capacity)
        self._pauses: Floats = np.zeros(capacity)
        """How many, fading, as `_excess`, the sum of what each was longer than PAUSE_FROM."""
        self._excess: Floats = np.zeros(capacity)

    def grow(self, capacity: int) -> None:
        more = capacity - len(self._mean)
        self._mean = np.concatenate([self._mean, np.ones(more)])
        self._variance = np.concatenate([self._variance, np.zeros(more)])
        self._count = np.concatenate([self._count, np.zeros(more)])
        self._pauses = np.concatenate([self._pauses, np.zeros(more)])
        self._excess = np.concatenate([self._excess, np.zeros(more)])

    def forget(self, slots: Slots | int) -> None:
        self._mean[slots], self._variance[slots], self._count[slots] = 1.0, 0.0, 0.0
        self._pauses[slots], self._excess[slots] = 0.0, 0.0

    def learn(self, slots: Slots, gaps: Floats, late: Floats) -> None:
        """Take in one gap of each of the distinct `slots`, and how much too late its sender was; both in periods.

        West (1979): the mean moves by w of the error e, the variance becomes (1 - w)(v + w e^2).
        """
        spread = np.maximum(np.sqrt(self._variance[slots]), self._pause)
        error = np.minimum(gaps, self._mean[slots] + CLIP * spread) - self._mean[slots]
        excess = np.minimum(late, LONGEST_PAUSE) - PAUSE_FROM
        self._pauses[slots] = (1.0 - PAUSE_FORGET) * self._pauses[slots] + (excess > 0.0)
        self._excess[slots] = (1.0 - PAUSE_FORGET) * self._excess[slots] + np.maximum(excess, 0.0)
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
        spreads = np.maximum(np.sqrt(variances), PAUSE_SPREADS * self._pause_excess(slots, known))
        return means, np.clip(spreads, self._pause, self._restless)

    def _pause_excess(self, slots: Slots, known: NDArray[np.bool_]) -> Floats:
        """Mean length of a node's pauses beyond PAUSE_FROM, as far as the fleet's usual node has shorter ones.

        The mean excess tells tails apart that their counts do not: it is constant for exponential ones, of a node that
        is merely busy, and grows with what is long for heavy ones (Embrechts et al., Modelling Extremal Events, 6.2.2).
        """
        means = (PSEUDO_PAUSES * PAUSE_PRIOR + self._excess) / (PSEUDO_PAUSES + self._pauses)
        usual = float(np.median(means[known])) if known.any() else PAUSE_PRIOR
        return np.minimum(means[slots], PAUSE_PRIOR + means[slots] - usual)

    def phi(self, slots: Slots, silence: Floats) -> Floats:
        """-log10 P(gap > silence | alive) of normal gaps: the accrual of Hayashibara et al. (SRDS 2004), eq. 4.

        The spread is at least the pause allowed to any living node: that of the rare pauses nobody has shown yet.
        """
        means, spreads = self.spread(slots)
        return np.asarray(-log_ndtr(-(silence - means) / spreads) / np.log(10.0))
