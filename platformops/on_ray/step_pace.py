"""How long a step of each rank takes now, from two of its heartbeats; both instants are of the rank's own clock."""

from __future__ import annotations

from collections.abc import Mapping

from platformops.on_ray.stuck import Beat

FEWEST_STEPS = 5
"""Between two beats: of fewer, the mean says more of the moments at which they were written."""


class StepPace:
    """Give it the last beats as often as they change; one thread."""

    def __init__(self) -> None:
        self.step_s: dict[int, float] = {}
        """Rank -> seconds, with all that comes between two steps; of ranks that were seen to make some."""
        self._before: dict[int, Beat] = {}

    def look(self, beats: Mapping[int, Beat]) -> None:
        for rank, beat in beats.items():
            before = self._before.get(rank)
            if before is None or before.owner != beat.owner:
                self._before[rank] = beat
            elif beat.steps - before.steps >= FEWEST_STEPS and beat.at > before.at:
                self.step_s[rank] = (beat.at - before.at) / (beat.steps - before.steps)
                self._before[rank] = beat
