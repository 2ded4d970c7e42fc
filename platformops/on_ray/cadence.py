"""How often a training writes a checkpoint: Young's interval, from what one costs and how often workers die."""

from __future__ import annotations

from pathlib import Path

from platformops.clock import Clock
from platformops.scheduler.interval import young_s

PRIOR_S = 600.0
"""Taken as one failure in so long before any was seen. Pessimistic, since a checkpoint of 30 ms each 6 s costs 0.5 %,
and what a failure costs people is more than the steps that are done again."""
LONGEST_S = 60.0
LOOK_S = 0.25
"""Between two looks for a request: the file may be on another machine's disk."""
FIRST_S = 2.0
"""The first one comes early: it tells what one costs."""


class Cadence:
    """When the next checkpoint is due, for one process; it learns what one costs from each that was written."""

    def __init__(self, clock: Clock, *, failures: int, request: Path | None = None) -> None:
        self._clock, self._failures, self._request = clock, failures, request
        self._requested, self._looked_at = _changed_at(request), clock.monotonic()
        self._began = self._saved_at = clock.monotonic()
        self._cost_s: float | None = None

    def is_due(self) -> bool:
        return self._is_asked() or self._clock.monotonic() - self._saved_at >= self.interval_s()

    def _is_asked(self) -> bool:
        """Whether the file of requests has changed since the last look."""
        if self._clock.monotonic() - self._looked_at < LOOK_S:
            return False
        self._looked_at = self._clock.monotonic()
        before, self._requested = self._requested, _changed_at(self._request)
        return self._requested != before

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


def _changed_at(file: Path | None) -> int:
    try:
        return file.stat().st_mtime_ns if file is not None else 0
    except OSError:
        return 0
