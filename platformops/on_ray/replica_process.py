"""The process of one replica: the rules are in `replica`, here is only what Serve calls, and the socket beside it."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray

from platformops.clock import SystemClock
from platformops.delivery.documents import revision_from
from platformops.gateway.call import Answer, Origin, Row
from platformops.gateway.listener import Listener
from platformops.gateway.served import limits_of
from platformops.on_ray import defects, replica
from platformops.on_ray.autoscaling import ITEMS, QUEUED
from platformops.on_ray.priority import go_first
from platformops.on_ray.replica_traces import ReplicaTraces
from platformops.spec.types import ServeSpec
from platformops.store.artifacts import Artifacts
from platformops.store.records import JsonObject


class ReplicaProcess:
    """One replica."""

    def __init__(self, revision: JsonObject, artifacts_url: str, cache: str) -> None:
        go_first()
        loaded = revision_from(revision)
        if loaded.planted:
            defects.start_with(loaded.planted)
        limits = limits_of(loaded.options)
        self._workload = replica.Workload(SystemClock(), timeout_s=limits.timeout_s)
        self._thread = ThreadPoolExecutor(1, "predict")
        self._node = ray.get_runtime_context().get_node_id()
        self._replica = f"{os.getpid()}@{self._node[:8]}"
        artifacts = Artifacts(artifacts_url, cache=Path(cache))
        self._pace = replica.Pace()
        self._served = replica.load(loaded, limits, artifacts, threads=threads_of(limits))
        self._answer: defects.Answering = replica.answer
        if loaded.planted:
            self._served = defects.served_with(loaded.planted, self._served)
            self._answer = defects.answering_with(loaded.planted)
        self._traces = ReplicaTraces(revision=loaded.name, node=self._node, replica=self._replica)
        self._listener = Listener(self._predicted)
        # What is loaded stays: collections need not look through it for as long as the replica lives.
        gc.collect()
        gc.freeze()

    async def predict(self, items: list[bytes], queued: int, traces: Sequence[str] = ()) -> tuple[Origin, list[Row]]:
        """Where this is, and one row an item, in order; without items, only where this is."""
        await self._listener.open()
        return await self._predicted(items, queued, traces)

    async def _predicted(self, items: list[bytes], queued: int, traces: Sequence[str]) -> tuple[Origin, list[Row]]:
        ticket, loop = self._workload.begin(len(items), queued), asyncio.get_running_loop()
        begin_s, took = loop.time(), replica.Times(SystemClock())
        try:
            # A batch in the other thread goes first: two at once would only slow each other down.
            if self._pace.is_short(items) and self._workload.num_batches == 1:
                answers = self._answered(items, traces, took)
            else:
                answers = await loop.run_in_executor(self._thread, self._answered, items, traces, took)
        finally:
            self._workload.end(ticket, len(items))
            if items:
                self._pace.note(len(items), loop.time() - begin_s)
        stages_s = (took.decode_s, took.transform_s, took.model_s)
        origin = Origin(
            self._node, self._replica, replica.resident_bytes(), stages_s, took.cpu_s, self._listener.name
        )  # fmt: skip
        return origin, [(a.status, a.json, a.code, a.message, a.model_version) for a in answers]

    def _answered(self, items: list[bytes], traces: Sequence[str], took: replica.Times) -> list[Answer]:
        with self._traces.inside(traces, len(items)):
            return self._answer(self._served, items, took)

    async def __del__(self) -> None:
        """Called by Serve, once it has drained the calls that it knows of; it knows none through the socket."""
        if (listener := getattr(self, "_listener", None)) is not None:
            await listener.close()

    async def probe(self, items: list[bytes]) -> tuple[str, int, list[str]]:
        """This replica, its resident bytes, and digests of what it makes of each item before the model."""
        loop = asyncio.get_running_loop()
        digests = await loop.run_in_executor(self._thread, replica.digests, self._served, items)
        return self._replica, replica.resident_bytes(), digests

    async def check_health(self) -> None:
        stuck_s = self._workload.stuck_s()
        if stuck_s is not None:
            raise RuntimeError(f"a batch has not returned for {stuck_s:.0f} s")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        items, queued = self._workload.peaks()
        return {ITEMS: float(items), QUEUED: float(queued)}


def threads_of(limits: ServeSpec) -> int:
    """Threads of the model runtime in one replica; `auto` shares the cores, one of them left to the gateway."""
    if limits.threads != "auto":
        return limits.threads
    cores = len(os.sched_getaffinity(0))
    return max(1, (cores - 1) // limits.replicas[1])
