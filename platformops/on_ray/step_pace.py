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
        self.work_s: dict[int, float] = {}
        """Rank -> seconds of its own part of a step, without waiting for other ranks."""
        self._before: dict[int, Beat] = {}

    def look(self, beats: Mapping[int, Beat]) -> None:
        for rank, beat in beats.items():
            before = self._before.get(rank)
            if before is None or before.owner != beat.owner:
                self._before[rank] = beat
                self.step_s.pop(rank, None)
                self.work_s.pop(rank, None)
            elif (steps := beat.steps - before.steps) >= FEWEST_STEPS and beat.at > before.at:
                self.step_s[rank] = (beat.at - before.at) / steps
                self.work_s[rank] = (beat.worked_s - before.worked_s) / steps
                self._before[rank] = beat


def slowest_by_node(work_s: Mapping[int, float], beats: Mapping[int, Beat]) -> dict[str, float]:
    """Node -> the most that any of its ranks takes for its own part of a step."""
    found: dict[str, float] = {}
    for rank, own_s in work_s.items():
        if rank in beats and (node := beats[rank].node):
            found[node] = max(found.get(node, 0.0), own_s)
    return found
