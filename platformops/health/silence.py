"""How long each node has been silent, on clocks that the monitor's own troubles cannot run ahead of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Slots = NDArray[np.intp]


class MonitorClock:
    """The monitor's own time: the wall's less what the monitor itself slept through.

    A tick that comes late by more than half a period was a stall (Cassandra's local pause, Lifeguard's local health):
    its lateness is subtracted, and for three quarters of a period nothing is concluded: what queued up is read first.
    """

    def __init__(self, now_s: float, *, tick_s: float, period_s: float) -> None:
        self._tick_s = tick_s
        self._period_s = period_s
        self._last_s = now_s
        self.stalled_s = 0.0
        """All lateness so far."""
        self.settled_at_s = now_s
        """From when on verdicts may be made."""

    def tick(self, now_s: float) -> bool:
        """Whether the monitor has its wits together at this tick."""
        late_s = now_s - self._last_s - self._tick_s
        self._last_s = now_s
        if late_s > 0.5 * self._period_s:
            self.stalled_s += late_s
            self.settled_at_s = now_s + 0.75 * self._period_s
        return now_s >= self.settled_at_s


class FleetSilence:
    """Silence of every slot in periods, one number a node.

    It is measured on the wall and on the fleet's clock, which one beat of each listened-to node moves on by one period,
    and the shorter counts. Where the whole machine, network or monitor is slow, everybody's beats are late together
    and the fleet's clock is slow with them; where a stalled monitor finds a full queue, the clock catches up at once,
    and where the queue was lost it does not. The same thought as phi accrual on a common clock: what is judged is being
    later than the others. However slow the fleet, silence counts for `slowest` of the wall, the monitor's stalls
    subtracted, so that it always ends.
    """

    def __init__(self, *, period_s: float, slowest: float, capacity: int) -> None:
        self._period_s = period_s
        self._slowest = slowest
        self.last_s: Floats = np.full(capacity, np.nan)
        """Wall time of the last beat; nan before the first."""
        self._last_monitor_s: Floats = np.zeros(capacity)
        self._last_fleet: Floats = np.zeros(capacity)
        self._fleet = 0.0
        """Beats heard so far over the number of nodes that were listened to when they came."""

    def grow(self, capacity: int) -> None:
        more = capacity - len(self.last_s)
        self.last_s = np.concatenate([self.last_s, np.full(more, np.nan)])
        self._last_monitor_s = np.concatenate([self._last_monitor_s, np.zeros(more)])
        self._last_fleet = np.concatenate([self._last_fleet, np.zeros(more)])

    def forget(self, slot: int) -> None:
        self.last_s[slot] = np.nan

    def hear(self, slots: Slots, num_beats: int, *, num_live: int, now_s: float, stalled_s: float) -> None:
        """Take in one batch of `num_beats` beats of distinct `slots`, of `num_live` nodes that are listened to."""
        self._fleet += num_beats / max(num_live, 1)
        self.last_s[slots] = now_s
        self._last_monitor_s[slots] = now_s - stalled_s
        self._last_fleet[slots] = self._fleet

    def periods(self, slots: Slots, *, num_live: int, now_s: float, stalled_s: float) -> Floats:
        """Silence of `slots` in periods; nan for those never heard."""
        wall = (now_s - self.last_s[slots]) / self._period_s
        monitor = (now_s - stalled_s - self._last_monitor_s[slots]) / self._period_s
        if num_live < 2:
            return np.where(np.isnan(wall), np.nan, monitor)
        fleet = (self._fleet - self._last_fleet[slots]) * _without_itself(num_live)
        return np.maximum(np.minimum(wall, fleet), self._slowest * monitor)

    def fleet_periods(self, slot: int, *, num_live: int) -> float:
        """Silence of one slot on the fleet's clock alone."""
        return float(self._fleet - self._last_fleet[slot]) * _without_itself(num_live)


def _without_itself(num_live: int) -> float:
    """A silent node moves the clock by nothing: this makes it run as if that node were not listened to."""
    return num_live / max(num_live - 1, 1)
