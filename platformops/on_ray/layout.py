"""Decides how many training workers run where; pure, so that it is tested without a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from platformops.errors import ClusterError
from platformops.on_ray.tickets import Capacity, task_cpus

ROWS_A_WORKER = 20_000
"""Below this, a second worker waits longer for gradients and for its start (about 10 s) than it saves."""


VALUES_A_THREAD = 100_000
"""Input values of a step that are worth one more thread: below, threads wait for each other longer than they compute
(8x8 digits at batch 64: 5,600 images a second on one thread, 400 to 1,500 on two of a busy machine)."""


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
    nodes: Sequence[Capacity],
    *,
    workers: int | Literal["auto"],
    devices: str,
    num_rows: int,
    values_a_step: int = 10**9,
) -> Layout:
    """The workers of one training. Raises ClusterError, with the figures, when they can never be placed.

    `num_rows` is of all epochs together; `values_a_step` is rows x height x width x channels of one batch.
    """
    slots, use_gpu = training_slots(nodes, workers=workers, devices=devices)
    if use_gpu:
        num_workers = slots if workers == "auto" else workers
        return Layout(num_workers, 1.0, 2, True, f"one worker a GPU, {num_workers} in all")
    return _on_cpus([n for n in nodes if n.cpus >= 1], workers, num_rows, values_a_step)


def training_slots(nodes: Sequence[Capacity], *, workers: int | Literal["auto"], devices: str) -> tuple[int, bool]:
    """Most workers that these nodes hold, and whether on GPUs. Raises ClusterError, with the figures, for too few."""
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
    return slots, use_gpu


def _on_cpus(nodes: Sequence[Capacity], workers: int | Literal["auto"], num_rows: int, values_a_step: int) -> Layout:
    worth = max(1, num_rows // ROWS_A_WORKER)
    num_workers = min(len(nodes), worth) if workers == "auto" else workers
    reason = (
        f"{len(nodes)} nodes, {num_rows} rows are worth {worth} workers" if workers == "auto" else "as the spec says"
    )
    workers_a_node = -(-num_workers // len(nodes))
    smallest = min(sorted((n.cpus for n in nodes), reverse=True)[:num_workers])
    worth_threads = values_a_step // num_workers // VALUES_A_THREAD
    threads = max(1, min(int(smallest) // workers_a_node, worth_threads))
    # A worker reserves a CPU at most, however many threads it has: it must be placed beside served replicas.
    return Layout(num_workers, task_cpus(nodes), threads, False, reason)
