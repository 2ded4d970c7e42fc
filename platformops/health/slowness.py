"""How much slower a node is than the others, by what its kernel and its server say: a share of its time that is lost.

A busy processor is no slow node: what a program takes, the node gives. Counted is only what is kept from the node (by a
hypervisor, a quota below what it promises, heat), and a server that answers an order of magnitude later than those of
its peers, which nothing that merely wants the processor makes it do for long. Replicas that answer as much later than
those of the same revision elsewhere count only where nobody wants the processors: that leaves the node's disk, its
network and its memory. Where all replicas of a revision are late, the revision is, and its release is judged for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from platformops.health import vitals

SLOW_FROM = 0.25
"""A tenth may explain a percent of a fleet's work (MegaScale, NSDI 2024), and is no reason to do anything yet."""
LATE_S, LATE_RATIO = 0.1, 10.0
"""Ten times too many programs on a processor keep a process that sleeps most of the time waiting for 15 ms."""
LEAST_SPEED = 0.01
PRESSED_STALL, PRESSED_BUSY = 0.5, 0.9
"""Share of time in which some program waits for a processor; and that processors work, where the kernel says no
more."""
_OF_SERVER = "its server answers in", "its peers' in"
GPU_SLOWDOWN_RATIO = 0.5
"""A slowdown by its hardware divides a GPU's clock by two or more (NVML, clocks event reasons)."""


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


def drags(
    withheld: Mapping[str, float],
    answers_s: Mapping[str, float],
    serves_s: Mapping[str, Mapping[str, float]] | None = None,
) -> Mapping[str, tuple[float, str]]:
    """Share lost against the peers, and why in words, of every node that loses SLOW_FROM or more; all arguments hold
    the least of the last few samples of each node, `serves_s` by revision. Without peers nobody is slow: there is
    nowhere better.

    That the faulty one differs from its peers, and that the difference persists, is Minder's idea (NSDI 2025).
    """
    kept = _others_median(withheld)
    late = _late(serves_s or {}) | _late({"": answers_s})
    found = {}
    for node in withheld.keys() & kept.keys():
        drag = 1.0 - (1.0 - withheld[node]) / max(1.0 - kept[node], LEAST_SPEED)
        words = f"gets {1.0 - withheld[node]:.0%} of its processors, its peers {1.0 - kept[node]:.0%}"
        if node in late and late[node][0] > drag:
            drag, words = late[node]
        if drag >= SLOW_FROM:
            found[node] = min(drag, 1.0 - LEAST_SPEED), words
    return found


def _late(answers_s: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, str]]:
    """By revision, `""` for the node's own server."""
    found: dict[str, tuple[float, str]] = {}
    for revision, of_nodes in answers_s.items():
        others = _others_median(of_nodes)
        for node, answer_s in of_nodes.items():
            if node in others and answer_s >= LATE_S and answer_s >= LATE_RATIO * others[node]:
                who, peers = (f"calls of {revision} take", "on its peers") if revision else _OF_SERVER
                words = f"{who} {answer_s:.2g} s, {peers} {others[node]:.2g} s"
                found[node] = max(found.get(node, (0.0, "")), (1.0 - others[node] / answer_s, words))
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
