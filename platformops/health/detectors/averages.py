"""Exponentially weighted means that begin as plain means: one number of state each."""

from __future__ import annotations


class Ewma:
    """Mean that weighs a new value by `weight`, and by 1/n while fewer than 1/weight values were seen.

    Roberts (Technometrics 1959); the start is the plain mean, so that the first value is not believed for ever.
    """

    __slots__ = ("_count", "_weight", "mean")

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._count = 0
        self.mean = 0.0

    def add(self, value: float) -> float:
        """The mean with `value` in it."""
        self._count += 1
        weight = self._weight if self._count * self._weight > 1.0 else 1.0 / self._count
        self.mean += weight * (value - self.mean)
        return self.mean

    @property
    def is_empty(self) -> bool:
        return self._count == 0
