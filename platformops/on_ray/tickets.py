"""How many CPUs a task reserves, so that it is placed beside what runs already; pure, and no part of any result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from platformops.errors import ClusterError

TICKETS = (1.0, 0.9, 0.5, 0.25)
"""CPUs that a task may reserve, most first. Replicas reserve tenths; a task that asked for a whole CPU of a one-CPU
node beside one of them would wait for ever."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one node has: logical CPUs and GPUs, and what is free of them now."""

    cpus: float
    gpus: float
    free_cpus: float


def task_cpus(nodes: Sequence[Capacity]) -> float:
    """What a computing task should reserve now, so that as many run as there are CPUs. Raises ClusterError for none."""
    wanted = sum(int(n.cpus) for n in nodes)
    slots = {ticket: sum(int(n.free_cpus / ticket + 1e-9) for n in nodes) for ticket in TICKETS}
    fitting = [ticket for ticket in TICKETS if slots[ticket] >= max(1, wanted)]
    placeable = [ticket for ticket in TICKETS if slots[ticket]]
    if not placeable:
        free = sum(n.free_cpus for n in nodes)
        raise ClusterError(
            f"the cluster has {free:g} of {wanted} CPUs free, and a task needs {TICKETS[-1]:g}",
            remedy="stop what holds them (`platformops status`, `ray status`), or add a node",
        )
    return fitting[0] if fitting else placeable[0]
