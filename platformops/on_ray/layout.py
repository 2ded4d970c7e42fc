"""Decides how many training workers run where; pure, so that it is tested without a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from platformops.errors import ClusterError

ROWS_A_WORKER = 20_000
"""Below this, a second worker waits longer for gradients and for its start (about 10 s) than it saves."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one node has: logical CPUs and GPUs, and what is free of them now."""

    cpus: float
    gpus: float
    free_cpus: float


TICKETS = (1.0, 0.9, 0.5, 0.25)
"""CPUs that a task may reserve, most first. Replicas reserve tenths; a task that asked for a whole CPU of a one-CPU
node beside one of them would wait for ever."""


@dataclass(frozen=True, slots=True)
class Layout:
    num_workers: int
    cpus_per_worker: float
    """Reserved in Ray: an admission ticket."""
    threads: int
    """Used by torch in each worker."""
    use_gpu: bool
    reason: str


def training_layout(
    nodes: Sequence[Capacity], *, workers: int | Literal["auto"], devices: str, num_rows: int
) -> Layout:
    """The workers of one training. Raises ClusterError, with the figures, when they can never be placed."""
    gpus = sum(int(n.gpus) for n in nodes)
    if devices == "gpu" and not gpus:
        raise ClusterError("train.devices is gpu and the cluster has none", remedy="set train.devices: auto")
    use_gpu = bool(gpus) and devices != "cpu"
    slots = gpus if use_gpu else sum(int(n.cpus) for n in nodes)
    if workers != "auto" and workers > slots:
        what = "GPUs" if use_gpu else "CPUs"
        raise ClusterError(
            f"train.workers is {workers} and the cluster has {slots} {what}",
            remedy=f"set train.workers to at most {slots}, or `auto`",
        )
    if not slots:
        raise ClusterError("the cluster has no CPU for a training worker", remedy="add a node with at least one CPU")
    if use_gpu:
        num_workers = gpus if workers == "auto" else workers
        return Layout(num_workers, 1.0, 2, True, f"one worker a GPU, {num_workers} in all")
    return _on_cpus([n for n in nodes if n.cpus >= 1], workers, num_rows)


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


def _on_cpus(nodes: Sequence[Capacity], workers: int | Literal["auto"], num_rows: int) -> Layout:
    worth = max(1, num_rows // ROWS_A_WORKER)
    num_workers = min(len(nodes), worth) if workers == "auto" else workers
    reason = (
        f"{len(nodes)} nodes, {num_rows} rows are worth {worth} workers" if workers == "auto" else "as the spec says"
    )
    workers_a_node = -(-num_workers // len(nodes))
    smallest = min(sorted((n.cpus for n in nodes), reverse=True)[:num_workers])
    threads = max(1, int(smallest) // workers_a_node)
    # A worker reserves a CPU at most, however many threads it has: it must be placed beside served replicas.
    return Layout(num_workers, task_cpus(nodes), threads, False, reason)
