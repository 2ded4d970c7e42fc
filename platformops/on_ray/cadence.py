"""How often a training writes a checkpoint: Young's interval, from what one costs, how often its workers died, and what
node health expects of its nodes."""

from __future__ import annotations

from pathlib import Path

from platformops.clock import Clock
from platformops.scheduler.interval import mean_time_to_failure_s, young_s

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

    def __init__(self, clock: Clock, *, failures: int, request: Path | None = None, hazard: Path | None = None) -> None:
        """`request` is a file that changes when one is wanted now, `hazard` one that holds failures a second of the
        nodes together and changes as that does."""
        self._clock, self._failures, self._request, self._hazard = clock, failures, request, hazard
        self._hazard_per_s = _number_in(hazard)
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
        self._hazard_per_s = _number_in(self._hazard)
        before, self._requested = self._requested, _changed_at(self._request)
        return self._requested != before

    def interval_s(self) -> float:
        if self._cost_s is None:
            return FIRST_S
        trained_s = self._clock.monotonic() - self._began
        of_workers = (1 + self._failures) / (PRIOR_S + trained_s)
        return min(LONGEST_S, young_s(self._cost_s, mean_time_to_failure_s((of_workers, self._hazard_per_s))))

    def saved(self, cost_s: float) -> None:
        """The slowest one counts: a disk that was busy once is busy again."""
        self._cost_s = max(cost_s, self._cost_s or 0.0)
        self._saved_at = self._clock.monotonic()


def _changed_at(file: Path | None) -> int:
    try:
        return file.stat().st_mtime_ns if file is not None else 0
    except OSError:
        return 0


def _number_in(file: Path | None) -> float:
    """0.0 where nobody has written one."""
    try:
        return float(file.read_text(encoding="utf-8")) if file is not None else 0.0
    except (OSError, ValueError):
        return 0.0
