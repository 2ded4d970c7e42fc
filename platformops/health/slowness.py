"""How much slower a node is than the others, by what its kernel and its server say: a share of its time that is lost.

A busy processor is no slow node: what a program takes, the node gives. Counted is only what is kept from the node (by a
hypervisor, a quota below what it promises, heat), and a server that answers an order of magnitude later than those of
its peers, which nothing that merely wants the processor makes it do for long. Replicas that answer as much later than
those of the same revision elsewhere, and ranks of a training that need longer for their own part of a step than the
others, count only where nobody else wants the processors: that leaves the node's disk, network, memory and devices.
Where all replicas of a revision are late, the revision is, and its release is judged for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from platformops.health import vitals

SLOW_FROM = 0.25
"""A tenth may explain a percent of a fleet's work (MegaScale, NSDI 2024), and is no reason to do anything yet."""
LATE_S, LATE_RATIO = 0.1, 10.0
"""Ten times too many programs on a processor keep a process that sleeps most of the time waiting for 15 ms."""
STEP_S, STEP_RATIO = 0.01, 1.5
"""All ranks wait for the slowest in each step, so that less counts than of calls; machines that ought to be equal are
not to the last third."""
LEAST_SPEED = 0.01
PRESSED_STALL, PRESSED_BUSY = 0.5, 0.9
"""Share of time in which some program waits for a processor; and that processors work, where the kernel says no
more."""
SHARED_STALL, SHARED_BUSY = 0.2, 0.2
"""Who waits for a fifth of the time takes 1.25 times as long, and less than STEP_RATIO."""
GPU_SLOWDOWN_RATIO = 0.5
"""A slowdown by its hardware divides a GPU's clock by two or more (NVML, clocks event reasons)."""


class Kind(StrEnum):
    """Of work that nodes are compared by."""

    SERVER = "server"
    """Asking the node's own server."""
    CALLS = "calls"
    """To replicas of one revision."""
    STEPS = "steps"
    """A rank's own part of the steps of one training, without its waiting for the others."""


Work = tuple[Kind, str]
"""And whose: a revision, a training."""


@dataclass(frozen=True, slots=True)
class _Late:
    """From when on a node is late with its work, and how that is said of its seconds and of the others'."""

    least_s: float
    ratio: float
    words: str


_LATE = {
    Kind.SERVER: _Late(LATE_S, LATE_RATIO, "its server answers in {its:.2g} s, its peers' in {others:.2g} s"),
    Kind.CALLS: _Late(LATE_S, LATE_RATIO, "calls of {name} take {its:.2g} s, on its peers {others:.2g} s"),
    Kind.STEPS: _Late(STEP_S, STEP_RATIO, "its part of a step of {name} takes {its:.2g} s, elsewhere {others:.2g} s"),
}


@dataclass(frozen=True, slots=True)
class Slowness:
    """A node that has been slow for several samples."""

    drag_ratio: float
    """Of its time that is lost, against the median of its peers."""
    since: float
    words: str


def withheld_ratio(readings: Mapping[str, float | None], cpus: float) -> float:
    """Share of the processor time that the node's programs want, and that it promises, which it does not get."""
    busy, steal = readings.get(vitals.CPU_BUSY) or 0.0, readings.get(vitals.CPU_STEAL) or 0.0
    stolen = steal / (busy + steal) if steal > 0.0 else 0.0
    spent, granted = readings.get(vitals.CPU_THROTTLED) or 0.0, readings.get(vitals.CPU_GRANTED)
    short = max(0.0, 1.0 - granted / cpus) if granted is not None and cpus > 0.0 else 0.0
    throttled = (readings.get(vitals.GPU_THROTTLED) or 0.0) * GPU_SLOWDOWN_RATIO
    return 1.0 - (1.0 - stolen) * (1.0 - spent * short) * (1.0 - throttled)


def is_pressed(readings: Mapping[str, float | None]) -> bool:
    """Whether programs wait for the node's processors."""
    stall, busy = readings.get(vitals.CPU_STALL), readings.get(vitals.CPU_BUSY) or 0.0
    return busy >= PRESSED_BUSY if stall is None else stall >= PRESSED_STALL


def is_shared(readings: Mapping[str, float | None], used_ratio: float) -> bool:
    """Whether others than those who have reserved `used_ratio` of the node's processors work on them, or wait for them
    so much that a step could take STEP_RATIO as long for it; also where the kernel does not say who waits."""
    stall, busy = readings.get(vitals.CPU_STALL), readings.get(vitals.CPU_BUSY)
    return stall is None or busy is None or stall >= SHARED_STALL or busy >= used_ratio + SHARED_BUSY


def drags(
    withheld: Mapping[str, float], times_s: Mapping[Work, Mapping[str, float]]
) -> Mapping[str, tuple[float, str]]:
    """Share lost against the peers, and why in words, of every node that loses SLOW_FROM or more; both arguments hold
    the least of the last few samples of each node. Without peers nobody is slow: there is nowhere better.

    That the faulty one differs from its peers, and that the difference persists, is Minder's idea (NSDI 2025).
    """
    kept, late = _others_median(withheld), _late(times_s)
    found = {}
    for node in withheld.keys() & kept.keys():
        drag = 1.0 - (1.0 - withheld[node]) / max(1.0 - kept[node], LEAST_SPEED)
        words = f"gets {1.0 - withheld[node]:.0%} of its processors, its peers {1.0 - kept[node]:.0%}"
        if node in late and late[node][0] > drag:
            drag, words = late[node]
        if drag >= SLOW_FROM:
            found[node] = min(drag, 1.0 - LEAST_SPEED), words
    return found


def _late(times_s: Mapping[Work, Mapping[str, float]]) -> dict[str, tuple[float, str]]:
    """Of what each node is latest with."""
    found: dict[str, tuple[float, str]] = {}
    for (kind, name), of_nodes in times_s.items():
        late, others = _LATE[kind], _others_median(of_nodes)
        for node, its in of_nodes.items():
            if node in others and its >= late.least_s and its >= late.ratio * others[node]:
                words = late.words.format(name=name, its=its, others=others[node])
                found[node] = max(found.get(node, (0.0, "")), (1.0 - others[node] / its, words))
    return found


def _others_median(values: Mapping[str, float]) -> Mapping[str, float]:
    """Of the others for two; of all, itself included, for more, where one changes little."""
    if len(values) < 2:
        return {}
    if len(values) == 2:
        (one, a), (other, b) = values.items()
        return {one: b, other: a}
    middle = median(values.values())
    return dict.fromkeys(values, middle)
