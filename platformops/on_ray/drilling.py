"""Faults on purpose on a raylet that is started for them and ended afterwards, and how soon each was answered."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from platformops.clock import Clock
from platformops.delivery.decisions import explain
from platformops.errors import ClusterError
from platformops.fleet import STATUS
from platformops.health.nodes import NODES, NodeRecord, node_from
from platformops.home import Home
from platformops.on_ray.actors import ask, running
from platformops.on_ray.controller import NAME
from platformops.on_ray.session import attach
from platformops.store.records import JsonObject, Store

START_S = 120.0
SETTLE_S = 8.0
"""A node that has just joined is not condemned by silence."""
LOOK_S = 0.05
CPUS = 1
MARK = "PLATFORMOPS_DRILL"


@dataclass(frozen=True, slots=True)
class Score:
    kind: str
    wanted: str
    limit_s: float
    found_s: float | None
    said: str
    passed: bool

    def document(self) -> JsonObject:
        return asdict(self)


class Victim:
    """A raylet of the drill's own, watched like any other."""

    def __init__(self, node: str, mark: str, store: Store, clock: Clock) -> None:
        self.node, self.mark, self.store, self.clock = node, mark, store, clock

    def record(self) -> NodeRecord:
        entry = self.store.get(NODES + self.node)
        if entry is None:
            raise ClusterError(f"node {self.node[:12]} is not watched", remedy="platformops health")
        return node_from(entry.value)

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                found += [process] if process.environ().get(MARK) == self.mark else []
        return found

    def raylet(self) -> psutil.Process:
        return next(p for p in self.processes() if p.name() == "raylet")

    def probe(self) -> psutil.Process:
        return next(p for p in self.processes() if "platformops.on_ray.probe" in p.cmdline())


def _kill(victim: Victim) -> None:
    victim.raylet().kill()


def _freeze(victim: Victim) -> None:
    victim.raylet().suspend()


def _kill_probe(victim: Victim) -> None:
    victim.probe().kill()


def _freeze_worker(victim: Victim) -> None:
    class Sleeper:
        def pid(self) -> int:
            return os.getpid()

    where = NodeAffinitySchedulingStrategy(victim.node, soft=False)
    actor = ray.remote(Sleeper).options(num_cpus=0, scheduling_strategy=where, lifetime="detached").remote()
    psutil.Process(int(ask("the drill's actor", actor.pid.remote(), START_S))).suspend()


def _kill_controller(victim: Victim) -> None:
    controller = running(NAME)
    if controller is None:
        raise ClusterError("no controller runs", remedy="platformops up SPEC")
    os.kill(int(ask(NAME, controller.pid.remote(), START_S)), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Drill:
    wanted: str
    limit_s: float
    strike: Callable[[Victim], None]
    is_answered: Callable[[Victim, NodeRecord, int], bool]
    """By the node's record now and before, and the epoch before."""
    ends_node: bool = False


DRILLS = {
    "probe": Drill(
        "a new probe, the node left alone", 15.0, _kill_probe,
        lambda v, before, _: v.record().incarnation > before.incarnation and not v.record().is_dead,
    ),
    "worker": Drill(
        "the worker ended, the node left alone", 10.0, _freeze_worker,
        lambda v, before, _: len(v.record().killed) > len(before.killed) and not v.record().is_dead,
    ),
    "controller": Drill(
        "a new controller, the node left alone", 60.0, _kill_controller,
        lambda v, _, epoch: _epoch(v.store) > epoch and not v.record().is_dead,
    ),
    "freeze": Drill("dead, and the cluster told", 8.0, _freeze, lambda v, *_: v.record().is_dead, ends_node=True),
    "kill": Drill("dead, and the cluster told", 4.0, _kill, lambda v, *_: v.record().is_dead, ends_node=True),
}  # fmt: skip


def drill(kinds: Sequence[str], home: Home, store: Store, clock: Clock) -> list[Score]:
    """The scores in order; every process that was started is gone, however it ends."""
    attach()
    ordered, scores = list(kinds), list[Score]()
    while ordered:
        with _victim(home, store, clock) as victim:
            while ordered:
                kind = ordered.pop(0)
                scores.append(_scored(kind, victim))
                if DRILLS[kind].ends_node:
                    break
    return scores


def _scored(kind: str, victim: Victim) -> Score:
    wanted, before, epoch = DRILLS[kind], victim.record(), _epoch(victim.store)
    began = victim.clock.monotonic()
    wanted.strike(victim)
    deadline = began + 3.0 * wanted.limit_s
    while not (found := wanted.is_answered(victim, before, epoch)) and victim.clock.monotonic() < deadline:
        victim.clock.sleep(LOOK_S)
    found_s = round(victim.clock.monotonic() - began, 2) if found else None
    told = explain(victim.store, victim.node, limit=1)
    said = told[0].reason if told else "nothing was decided"
    return Score(kind, wanted.wanted, wanted.limit_s, found_s, said, found_s is not None and found_s <= wanted.limit_s)


def _epoch(store: Store) -> int:
    entry = store.get(STATUS)
    return int(str(entry.value["epoch"])) if entry else 0


@contextmanager
def _victim(home: Home, store: Store, clock: Clock) -> Iterator[Victim]:
    mark = secrets.token_hex(8)
    before = {n["NodeID"] for n in ray.nodes()}
    address = str(ray.get_runtime_context().gcs_address)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}", f"--num-cpus={CPUS}"]
    log = home.logs / "drill.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    victim = Victim("", mark, store, clock)
    try:
        with log.open("wb") as output:
            done = subprocess.run(
                [*command, "--object-store-memory=80000000", "--disable-usage-stats"],
                env={**os.environ, MARK: mark}, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                timeout=START_S, check=False, start_new_session=True,
            )  # fmt: skip
        if done.returncode:
            raise ClusterError(f"the drill's node did not start (exit {done.returncode})", remedy=f"read {Path(log)}")
        victim.node = _await(lambda: next((n["NodeID"] for n in ray.nodes() if n["NodeID"] not in before), ""), clock)
        _await(lambda: _is_heard(store, victim.node), clock)
        clock.sleep(SETTLE_S)
        yield victim
    finally:
        for process in victim.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


def _await(condition: Callable[[], str], clock: Clock) -> str:
    deadline = clock.monotonic() + START_S
    while not (found := condition()):
        if clock.monotonic() > deadline:
            raise ClusterError("the drill's node is not heard", remedy="platformops health")
        clock.sleep(LOOK_S)
    return found


def _is_heard(store: Store, node: str) -> str:
    entry = store.get(STATUS)
    rows = entry.value["nodes"] if entry else []
    assert isinstance(rows, list), "written by the controller"
    return next((node for r in rows if isinstance(r, dict) and r["id"] == node and r["heard_s_ago"] is not None), "")
