"""The faults of nodes, workers and probes of a live cluster: how each is struck, and when it counts as found."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from benchmarks.live_faults_cluster import LOOK_S, Site, processes_of, until
from benchmarks.live_faults_jobs import Running
from platformops.health.drills import Wanted, false_actions
from platformops.health.nodes import NODES

FOUND_WITHIN_S, RAW_PATIENCE_S = 60.0, 60.0
"""Ray alone never misses a process that hangs or is held still; so much of that is counted."""
RAW_FROZEN_S = 90.0
"""A frozen raylet it does miss, after 62 s."""


@dataclass(frozen=True)
class Struck:
    """What came of one fault."""

    kind: str
    is_raw: bool = False
    found_s: float | None = None
    """None where nothing was to be found, or nothing was within FOUND_WITHIN_S."""
    lost_s: float | None = None
    """Of the job that it befell."""
    is_missed: bool = False
    false: tuple[str, ...] = ()
    """Decisions that it did not ask for."""


@dataclass(frozen=True)
class Fault:
    wanted: Wanted
    strike: Callable[[Site, str, Running], None]
    is_found: Callable[[Site, str, Running], bool] | None
    """None for what the cluster itself repairs."""
    ends_node: bool = False


def kill_node(made: Site, node: str, job: Running) -> None:
    for process in processes_of(made, node):
        with contextlib.suppress(psutil.Error):
            process.kill()


def freeze_node(made: Site, node: str, job: Running) -> None:
    for process in processes_of(made, node):
        with contextlib.suppress(psutil.Error):
            process.suspend()


def kill_controller(made: Site, node: str, job: Running) -> None:
    """Then, at any moment of its restart, the node's server."""
    os.kill(made.controller_pid(), signal.SIGKILL)
    time.sleep(random.uniform(0.0, 3.0))
    made.raylet(node).kill()


def hang(made: Site, node: str, job: Running) -> None:
    job.hang()


def _is_dead(made: Site, node: str, job: Running) -> bool:
    return made.is_dead(node)


def _is_killed(made: Site, node: str, job: Running) -> bool:
    return made.has_ended(node, job.pid)


def _is_ended(made: Site, node: str, job: Running) -> bool:
    try:
        return bool(psutil.Process(job.pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _has_new_probe(made: Site, node: str, job: Running) -> bool:
    return made.probe(node) is not None and made.is_heard(node)


FAULTS: Mapping[str, Fault] = {
    "kill_raylet": Fault(Wanted.DEAD, lambda made, node, _: made.raylet(node).kill(), _is_dead, ends_node=True),
    "kill_node": Fault(Wanted.DEAD, kill_node, _is_dead, ends_node=True),
    "kill_controller": Fault(Wanted.DEAD, kill_controller, _is_dead, ends_node=True),
    "freeze_raylet": Fault(Wanted.DEAD, lambda made, node, _: made.raylet(node).suspend(), _is_dead, ends_node=True),
    "freeze_node": Fault(Wanted.DEAD, freeze_node, _is_dead, ends_node=True),
    "freeze_actor": Fault(Wanted.WORKER_ENDED, lambda _, __, job: psutil.Process(job.pid).suspend(), _is_killed),
    "hung_rank": Fault(Wanted.LEFT_ALONE, hang, _is_ended),
    "kill_actor": Fault(Wanted.LEFT_ALONE, lambda _, __, job: psutil.Process(job.pid).kill(), None),
    "kill_probe": Fault(Wanted.NEW_PROBE, lambda made, node, _: made.end_probe(node), _has_new_probe),
}
ROUND = (
    "kill_actor", "freeze_actor", "hung_rank", "kill_raylet", "kill_probe", "freeze_node", "freeze_actor",
    "kill_controller", "kill_actor", "freeze_raylet", "kill_probe", "freeze_actor", "kill_node",
)  # fmt: skip
"""A mix of the faults of nodes and of what runs on them; again and again."""
UNHURT = frozenset({"kill_probe"})
"""The job goes on."""


def strike(made: Site, kind: str, number: int, *, is_raw: bool) -> Struck:
    """One fault on a node that runs a job of its own; where that ends the node, another one joins."""
    fault = FAULTS[kind]
    node = next(iter(made.nodes)) if is_raw else _heard(made)
    job = Running(made, node, number, is_raw=is_raw)
    with job.watch if kind == "hung_rank" and not is_raw else contextlib.nullcontext():
        struck = _struck(made, kind, node, job, is_raw=is_raw)
    job.end()
    if fault.ends_node:
        made.remove(node)
        made.add()
    return struck


def _heard(made: Site) -> str:
    """A node that is watched; one that has just joined is not condemned yet."""
    until(lambda: any(made.is_settled(node) for node in made.nodes), "a node is heard")
    return next(node for node in made.nodes if made.is_settled(node))


def _struck(made: Site, kind: str, node: str, job: Running, *, is_raw: bool) -> Struck:
    fault = FAULTS[kind]
    before, began, began_at = job.step(), time.monotonic(), time.time()
    fault.strike(made, node, job)
    found_s, is_missed = None, False
    if not is_raw and fault.is_found is not None:
        found_s = _until_found(fault, made, node, job, began)
        is_missed = found_s is None
    if kind in UNHURT:
        return Struck(kind, is_raw, found_s, None, is_missed, false_since(made, fault.wanted, node, began_at))
    patience_s = RAW_FROZEN_S if kind.startswith("freeze_") and kind != "freeze_actor" else RAW_PATIENCE_S
    lost_s = round(job.lost_s(began, before, patience_s), 2)
    false = () if is_raw else false_since(made, fault.wanted, node, began_at)
    return Struck(kind, is_raw, found_s, lost_s, is_missed, false)


def _until_found(fault: Fault, made: Site, node: str, job: Running, began: float) -> float | None:
    assert fault.is_found is not None
    while time.monotonic() - began < FOUND_WITHIN_S:
        if fault.is_found(made, node, job):
            return round(time.monotonic() - began, 2)
        time.sleep(LOOK_S)
    return None


def false_since(made: Site, wanted: Wanted, node: str, since: float) -> tuple[str, ...]:
    """Decisions since then that a fault on the node did not ask for."""
    nodes = [entry.key.removeprefix(NODES) for entry in made.store.scan(NODES)]
    told = [d for one in nodes for d in made.told(one) if d.decided_at >= since]
    return false_actions(wanted, told, victims=(node,), nodes=nodes)
