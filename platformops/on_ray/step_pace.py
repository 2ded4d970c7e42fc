"""How long a step of each rank takes now, from two of its heartbeats; both instants are of the rank's own clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from platformops.health.nodes import Step
from platformops.on_ray.stuck import Beat, Section

FEWEST_STEPS = 5
"""Between two beats: of fewer, the mean says more of the moments at which they were written."""


class StepPace:
    """Give it the last beats as often as they change; one thread."""

    def __init__(self) -> None:
        self.step_s: dict[int, float] = {}
        """Rank -> seconds, with all that comes between two steps; of ranks that were seen to make some."""
        self.work: dict[int, Step] = {}
        """Rank -> its own part of a step."""
        self._before: dict[int, Beat] = {}

    def look(self, beats: Mapping[int, Beat]) -> None:
        for rank, beat in beats.items():
            before = self._before.get(rank)
            if before is None or before.owner != beat.owner:
                self._before[rank] = beat
                self.step_s.pop(rank, None)
                self.work.pop(rank, None)
            elif (steps := beat.steps - before.steps) >= FEWEST_STEPS and beat.at > before.at:
                self.step_s[rank] = (beat.at - before.at) / steps
                self.work[rank] = Step(beat.steps, (beat.worked_s - before.worked_s) / steps)
                self._before[rank] = beat


def slowest_by_node(work: Mapping[int, Step], beats: Mapping[int, Beat]) -> dict[str, tuple[int, Step]]:
    """Node -> how many ranks it has, and the own part of the slowest of those that are known."""
    ranks = Counter(beat.node for beat in beats.values() if beat.node and beat.section is not Section.ENDED)
    found: dict[str, tuple[int, Step]] = {}
    for rank, step in work.items():
        node = beats[rank].node if rank in beats else ""
        if node in ranks and (node not in found or step.seconds > found[node][1].seconds):
            found[node] = ranks[node], step
    return found
