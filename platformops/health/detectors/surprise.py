"""How rare a value is among all that the same series has shown: a tail probability without a model."""

from __future__ import annotations

from itertools import accumulate
from math import log, log10

BINS_PER_E = 8.0  # bins grow by 13 %: finer ones cost time and tell no more
ZERO_BIN = 80  # the bin of 1.0; the lowest is of e^-10
NUM_BINS = 160
BEYOND = 0.25  # surprise per bin above all history: an exponential tail in the logarithm of the value


class Surprise:
    """Histogram of log magnitudes; constant memory.

    The answer is the conformal p-value of Vovk, Gammerman and Shafer (2005), (1 + number as large) / (1 + number), as
    -log10; above everything seen it is continued exponentially, so that a new record by far outranks one by a little.
    """

    __slots__ = ("_counts", "_highest", "_num")

    def __init__(self) -> None:
        self._counts = [0] * NUM_BINS
        self._num = 0
        self._highest = 0

    def add(self, magnitude: float) -> float:
        """-log10 of the share of earlier magnitudes that are as large; then counts this one."""
        at = _bin(magnitude)
        surprise = self._surprise(at)
        self._counts[at] += 1
        self._num += 1
        self._highest = max(self._highest, at)
        return surprise

    def _surprise(self, at: int) -> float:
        if self._num == 0:
            return 0.0
        if at > self._highest:
            return log10(self._num + 1) + BEYOND * (at - self._highest)
        return -log10((sum(self._counts[at : self._highest + 1]) + 1) / (self._num + 1))

    def quantile(self, probability: float) -> float:
        """The magnitude below which so much of what was seen lies, to within a bin; 0.0 before the first."""
        wanted = probability * self._num
        for at, below in enumerate(accumulate(self._counts)):
            if below >= wanted > 0:
                return float(2.718281828459045 ** ((at + 0.5 - ZERO_BIN) / BINS_PER_E))
        return 0.0


def _bin(magnitude: float) -> int:
    if magnitude <= 0.0:
        return 0
    return min(max(int(log(magnitude) * BINS_PER_E + ZERO_BIN), 0), NUM_BINS - 1)
