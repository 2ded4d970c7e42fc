"""What the keeper does about what it sees: pure, so that every fault is tried without a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from platformops.keeper.records import (
    Act,
    Decided,
    GiveUp,
    Kill,
    Left,
    Memory,
    RestartHead,
    Resume,
    Sighting,
    StartGcs,
)

WINDOW_S = 600.0
"""A restart longer ago than this says nothing about the cluster of now."""
MOST_RESTARTS = 8
"""Within the window; a cluster that dies more often has a cause that restarting does not remove."""
FREE_RESTARTS = 2
"""At once, without a pause: a kill and a kill of what replaced it."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
MOST_GCS_RESTARTS = 3
"""Of the GCS alone; then its state may be the cause, and the whole head is started anew."""
STOPPED_S = 2.0
"""A process held still by a signal for so long is no debugger's step and no shell's job control: nobody waits for it.
The state comes from the kernel and not from a missed answer, so a machine that is merely busy condemns nobody."""
MOST_RESUMED = 5
RESUME_PAUSE_S = 5.0
"""Before the second time; it grows with each."""


def decide(seen: Sighting, memory: Memory, now: float) -> Decided:
    """The acts for this moment, and what to remember. `now` is of the clock that `memory` was made with."""
    if not seen.is_wanted:
        return Decided((), Memory(), is_over=True)
    memory = _forgotten(memory, now)
    if not (seen.has_gcs and seen.has_raylet):
        return _restart(seen, memory, now)
    acts, since = _kills(seen.stopped, memory.stopped_since, now)
    return Decided((*acts, *_resumes(seen.left, now)), replace(memory, stopped_since=since, has_given_up=False))


def pause_s(restarts: int) -> float:
    """Seconds to wait before the restart after `restarts` others."""
    if restarts < FREE_RESTARTS:
        return 0.0
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (restarts - FREE_RESTARTS))


def _restart(seen: Sighting, memory: Memory, now: float) -> Decided:
    count = len(memory.restarts)
    if count >= MOST_RESTARTS:
        reason = f"restarted {count} times within {WINDOW_S:.0f} s and down again"
        acts: tuple[Act, ...] = () if memory.has_given_up else (GiveUp(reason),)
        return Decided(acts, replace(memory, has_given_up=True, stopped_since={}))
    if count and now - memory.restarts[-1] < pause_s(count):
        return Decided((), memory)
    act = _remedy(seen, memory)
    alone = (*memory.gcs_restarts, now) if isinstance(act, StartGcs) else memory.gcs_restarts
    return Decided((act,), replace(memory, restarts=(*memory.restarts, now), gcs_restarts=alone, stopped_since={}))


def _remedy(seen: Sighting, memory: Memory) -> Act:
    if not seen.has_raylet:
        return RestartHead("the raylet is gone" if seen.has_gcs else "GCS and raylet are gone")
    if not seen.can_start_gcs:
        return RestartHead("the GCS is gone and cannot be started alone: its command or its state is not at hand")
    if len(memory.gcs_restarts) >= MOST_GCS_RESTARTS:
        return RestartHead(f"the GCS is gone for the {MOST_GCS_RESTARTS + 1}th time within {WINDOW_S:.0f} s")
    return StartGcs("the GCS is gone, the raylet is not")


def _forgotten(memory: Memory, now: float) -> Memory:
    def recent(instants: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(at for at in instants if now - at < WINDOW_S)

    return replace(memory, restarts=recent(memory.restarts), gcs_restarts=recent(memory.gcs_restarts))


def _kills(
    stopped: Mapping[int, str], since: Mapping[int, float], now: float
) -> tuple[tuple[Act, ...], Mapping[int, float]]:
    seen_since = {pid: since.get(pid, now) for pid in stopped}
    due = [pid for pid in sorted(stopped) if now - seen_since[pid] >= STOPPED_S]
    reason = f"held still by a signal for {STOPPED_S:g} s"
    return tuple(Kill(pid, stopped[pid], reason) for pid in due), seen_since


def _resumes(left: tuple[Left, ...], now: float) -> tuple[Act, ...]:
    due = [one for one in left if one.resumed < MOST_RESUMED and _has_rested(one, now)]
    return tuple(Resume(one.id, f"the process of `{one.verb}` is gone and its work is not finished") for one in due)


def _has_rested(left: Left, now: float) -> bool:
    return not left.resumed or now - left.resumed_at >= RESUME_PAUSE_S * left.resumed
