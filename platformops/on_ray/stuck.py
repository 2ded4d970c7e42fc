"""When a training worker counts as stuck: pure rules on what it says of itself, with limits learnt from what it did."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TypeVar

from platformops.pipeline.records import Owner

SHORTEST_LIMIT_S = 8.5
"""Below it a machine that is merely busy would condemn a healthy worker."""
SLOWEST_RATIO = 5.0
"""Times the 99th percentile of the section's own durations."""
UNKNOWN_LIMIT_S = 600.0
"""Of a section that nobody has seen end yet, such as the first start of a model that compiles itself, or the export of
a large one on a busy machine: a worker that is killed in it would begin it again."""
REMEMBERED = 512
STOPPED_S = 2.0
"""A process held still by a signal for so long will not come back by itself; the kernel says so, no missed answer."""
WORST_GAP_S = 1.0
"""A look that comes later than this counts as this late: a watcher that slept itself condemns nobody."""


class Section(StrEnum):
    """What a worker is doing; each has a limit of its own."""

    SETUP = "setup"
    STEP = "step"
    VALIDATION = "validation"
    CHECKPOINT = "checkpoint"
    FINISH = "finish"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat: what `rank-N.json` holds."""

    owner: Owner
    number: int
    """Rises with each beat; a beat that is read twice says that nothing happened."""
    section: Section
    limit_s: float | None
    """How long the section may last; None once there is nothing to wait for."""
    thread: int = 0
    """The kernel's id of the thread that does the work."""
    at: float = 0.0
    """Seconds since the epoch, for people and measurements; never compared with another machine's."""
    steps: int = 0
    """Done by this process."""
    worked_s: float = 0.0
    """What it took for its own part of them, without waiting for other ranks."""
    resumed: str = ""
    """Name of the checkpoint that this process went on from; empty for none."""
    saved: str = ""
    """Name of the newest checkpoint that this process has made durable."""
    groups: int = 1
    """Worker groups of this training so far, this one included."""
    node: str = ""
    """The cluster's id of the node that it runs on."""
    longest_s: Mapping[str, float] = field(default_factory=dict)
    """Section -> its longest duration so far, from which the next group learns."""


def beat_text(beat: Beat) -> str:
    return json.dumps(asdict(beat))


def beat_from(text: str) -> Beat | None:
    """None for a text that is no beat."""
    try:
        value = json.loads(text)
        return Beat(**{**value, "owner": Owner(**value["owner"]), "section": Section(value["section"])})
    except (ValueError, TypeError, KeyError):
        return None


@dataclass(slots=True)
class Durations:
    """How long the sections of one worker lasted; what an earlier group saw counts as one observation each."""

    seen: dict[Section, deque[float]] = field(default_factory=dict)

    def add(self, section: Section, duration_s: float) -> None:
        self.seen.setdefault(section, deque(maxlen=REMEMBERED)).append(duration_s)

    def limit_s(self, section: Section) -> float:
        return limit_s(self.seen.get(section, ()))

    def longest_s(self) -> dict[str, float]:
        return {section.value: max(durations) for section, durations in self.seen.items() if durations}


def limit_s(durations_s: Sequence[float] | deque[float]) -> float:
    """Seconds after which a section that has lasted `durations_s` before counts as stuck."""
    if not durations_s:
        return UNKNOWN_LIMIT_S
    ordered = sorted(durations_s)
    p99 = ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)]
    return max(SHORTEST_LIMIT_S, SLOWEST_RATIO * p99)


@dataclass(frozen=True, slots=True)
class Watched:
    """What a watcher remembers of one worker between two looks."""

    number: int = -1
    quiet_s: float = 0.0
    """Since the last new beat, as far as the watcher itself was awake."""
    stopped_s: float = 0.0


def watch(
    watched: Watched, beat: Beat, *, is_stopped: bool, elapsed_s: float, starved_s: float = 0.0
) -> tuple[Watched, str]:
    """The memory after a look that came `elapsed_s` after the last one, and why the worker must be ended, or "".

    `starved_s` of these it was ready to run and got no processor, which is the machine's fault and not its own.
    """
    passed_s = min(elapsed_s, WORST_GAP_S)
    is_new = beat.number != watched.number
    now = Watched(
        beat.number,
        quiet_s=0.0 if is_new else watched.quiet_s + max(0.0, passed_s - starved_s),
        stopped_s=watched.stopped_s + passed_s if is_stopped else 0.0,
    )
    if beat.limit_s is None:
        return now, ""
    if now.stopped_s >= STOPPED_S:
        return now, f"held still by a signal for {now.stopped_s:.0f} s"
    if now.quiet_s >= beat.limit_s:
        return now, f"no progress in its {beat.section.value} for {now.quiet_s:.0f} s (limit {beat.limit_s:.0f} s)"
    return now, ""


K = TypeVar("K")


def condemned(ranks: Mapping[K, tuple[Beat, str]]) -> tuple[K, ...]:
    """The ranks to end, of living ones with why each should be.

    Ranks take their steps together: one that waits in a step is not stuck as long as another one is still busy with
    something else, such as writing a checkpoint, within the limit of that.
    """
    is_busy = any(not why and beat.limit_s and beat.section is not Section.STEP for beat, why in ranks.values())
    return tuple(rank for rank, (beat, why) in ranks.items() if why and not (is_busy and beat.section is Section.STEP))
