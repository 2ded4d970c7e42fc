"""How far a training is, and how large a step it takes there."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 0.2
"""Share of the peak at the very start."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One cycle: the rate rises to its peak and falls to nearly nothing, fitted to steps or to time."""

    peak: float
    total_steps: int
    time_limit_s: float | None
    warmup: float = 0.2
    """Share of the training in which the rate rises."""
    last: float = 0.02
    """Share of the peak at the end."""

    def progress(self, step: int, elapsed_s: float) -> float:
        """Share of the training that is over, from 0 to 1: by steps or by time, whichever is further.

        Where the time is too short for all steps the rate thus still falls to its end, and training ends at 1.
        """
        by_time = elapsed_s / self.time_limit_s if self.time_limit_s else 0.0
        return min(1.0, max(step / self.total_steps, by_time))

    def rate(self, progress: float) -> float:
        if progress < self.warmup:
            return self.peak * (FIRST + (1 - FIRST) * progress / self.warmup)
        return self.peak * (1 + (self.last - 1) * (progress - self.warmup) / (1 - self.warmup))
