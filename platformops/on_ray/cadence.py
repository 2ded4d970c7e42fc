"""How often a training writes a checkpoint: Young's interval, from what one costs and how often workers die."""

from __future__ import annotations

from platformops.clock import Clock
from platformops.scheduler.interval import young_s

PRIOR_S = 600.0
"""Taken as one failure in so long before any was seen. Pessimistic, since a checkpoint of 30 ms each 6 s costs 0.5 %,
and what a failure costs people is more than the steps that are done again."""
LONGEST_S = 60.0
FIRST_S = 2.0
"""The first one comes early: it tells what one costs."""


class Cadence:
    """When the next checkpoint is due, for one process; it learns what one costs from each that was written."""

    def __init__(self, clock: Clock, *, failures: int) -> None:
        self._clock, self._failures = clock, failures
        self._began = self._saved_at = clock.monotonic()
        self._cost_s: float | None = None

    def is_due(self) -> bool:
        return self._clock.monotonic() - self._saved_at >= self.interval_s()

    def interval_s(self) -> float:
        if self._cost_s is None:
            return FIRST_S
        trained_s = self._clock.monotonic() - self._began
        between_s = (PRIOR_S + trained_s) / (1 + self._failures)
        return min(LONGEST_S, young_s(self._cost_s, between_s))

    def saved(self, cost_s: float) -> None:
        """The slowest one counts: a disk that was busy once is busy again."""
        self._cost_s = max(cost_s, self._cost_s or 0.0)
        self._saved_at = self._clock.monotonic()
