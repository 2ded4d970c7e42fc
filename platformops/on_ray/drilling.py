"""Holds node drills: starts a node to be broken, breaks it, watches what comes of it, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import psutil
import ray

from platformops.clock import Clock
from platformops.delivery.decisions import explain
from platformops.errors import ClusterError
from platformops.fleet import STATUS
from platformops.health.drills import DRILLS, Score, Sight, false_actions, is_answered, not_held, score
from platformops.health.nodes import NODES, NodeRecord, node_from
from platformops.home import Home
from platformops.on_ray.drill_faults import START_S, STRIKES
from platformops.on_ray.drill_places import Place, Settled, settle, why_not
from platformops.on_ray.hands import DRILL_LABEL
from platformops.on_ray.session import attach
from platformops.on_ray.undoing import Undoing
from platformops.store.records import JsonObject, Store

SETTLE_S = 8.0
"""A node that has just joined is not condemned by silence."""
LOOK_S = 0.05
PATIENCE = 2.0
"""Times its limit, that a drill is watched for: how late a late answer was is worth knowing."""
CPUS = 1
OBJECT_STORE_BYTES = 80_000_000
MARK = "PLATFORMOPS_DRILL"
LOG = "drill.log"
PLACES: Mapping[str, Place] = {
    "slow": Place.PROCESSOR,
    "leak": Place.MEMORY,
    "fill": Place.DISK,
    "blip": Place.NETWORK,
    "partition": Place.NETWORK,
    "flap": Place.NETWORK,
}


class Victim:
    """A node of the drill's own, watched like any other; it takes no work of anybody else's."""

    def __init__(self, place: Place, home: Home, store: Store, clock: Clock, undoing: Undoing) -> None:
        self.home, self.store, self.clock, self.undoing = home, store, clock, undoing
        self.mark, self.node, self.nodes = secrets.token_hex(4), "", list[str]()
        self.struck_from = clock.monotonic()
        """When the drill under way began to hurt: what it needs beforehand is none of the fault."""
        self.actors: list[ray.actor.ActorHandle] = []
        """Ray ends an actor that nobody holds."""
        self.session = str(ray._private.worker._global_node.get_session_dir_path())
        self._address = str(ray.get_runtime_context().gcs_address)
        self.settled: Settled = settle(place, f"pd{self.mark}", undoing, disk_at=self.session)
        undoing.add("kill", f"{MARK}={self.mark}")

    def begin(self) -> None:
        """Its server runs and is heard on return; also again, after it has died. Raises ClusterError."""
        before = self._joined()
        if not self._is_started() and not self._is_started():
            log = self.home.logs / LOG
            raise ClusterError("the drill's node does not start", remedy=f"read {log}")
        self.wait("its node joins", lambda: bool(self._joined() - before))
        self.node = min(self._joined() - before)
        self.nodes.append(self.node)
        self.wait("its node is heard", lambda: self._row().get("heard_s_ago") is not None)

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = START_S) -> None:
        deadline = self.clock.monotonic() + timeout_s
        while not condition():
            if self.clock.monotonic() > deadline:
                raise ClusterError(f"{what}: not within {timeout_s:g} s", remedy="platformops health")
            self.clock.sleep(LOOK_S)

    def record(self) -> NodeRecord:
        entry = self.store.get(NODES + self.node)
        if entry is None:
            raise ClusterError(f"node {self.node[:12]} is not watched", remedy="platformops health")
        return node_from(entry.value)

    def sight(self) -> Sight:
        status, row = self._status(), self._row()
        heard_s_ago, at, epoch = row.get("heard_s_ago"), status.get("at", 0.0), status.get("epoch", 0)
        assert isinstance(at, int | float), "written by the controller"
        assert isinstance(epoch, int), "written by the controller"
        heard = float(heard_s_ago) if isinstance(heard_s_ago, int | float) else None
        return Sight(self.record(), epoch, heard, float(at))

    def raylet(self) -> psutil.Process:
        return next(p for p in self._processes() if p.name() == "raylet")

    def probe(self) -> psutil.Process:
        return next(p for p in self._processes() if "platformops.on_ray.probe" in p.cmdline())

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                found += [process] if process.environ().get(MARK) == self.mark else []
        return found

    def _end_what_is_left(self) -> None:
        left = self._processes()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=START_S)

    def _joined(self) -> set[str]:
        """Its living nodes; the one that was just killed may be among them until the cluster knows."""
        return {n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Labels"].get(DRILL_LABEL) == self.mark}

    def _is_started(self) -> bool:
        """Ray gives a node half a minute to come up, which a machine with ten times too much work may not make."""
        self._end_what_is_left()
        command = [
            *self.settled.wrapper, sys.executable, "-m", "ray.scripts.scripts", "start",
            f"--address={self._address}", f"--num-cpus={CPUS}", f"--object-store-memory={OBJECT_STORE_BYTES}",
            f"--labels={DRILL_LABEL}={self.mark}", "--disable-usage-stats", *self.settled.arguments,
        ]  # fmt: skip
        self.home.logs.mkdir(parents=True, exist_ok=True)
        with (self.home.logs / LOG).open("ab") as output:
            done = subprocess.run(
                command, env={**os.environ, MARK: self.mark}, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, timeout=START_S, check=False, start_new_session=True,
            )  # fmt: skip
        return done.returncode == 0

    def _status(self) -> JsonObject:
        entry = self.store.get(STATUS)
        return entry.value if entry else {}

    def _row(self) -> JsonObject:
        rows = self._status().get("nodes", [])
        assert isinstance(rows, list), "written by the controller"
        return next((r for r in rows if isinstance(r, Mapping) and r["id"] == self.node), {})


def drill(kinds: Sequence[str], home: Home, store: Store, clock: Clock) -> list[Score]:
    """The scores in order; everything that was started or changed is as before, however it ends."""
    attach()
    ordered, scores = list(kinds), list[Score]()
    head = str(ray.get_runtime_context().gcs_address).rpartition(":")[0]
    while ordered:
        place = PLACES.get(ordered[0], Place.SHARED)
        if reason := why_not(place, head):
            scores.append(not_held(ordered.pop(0), reason))
            continue
        with _victim(place, home, store, clock) as victim:
            while ordered and PLACES.get(ordered[0], Place.SHARED) is place:
                kind = ordered.pop(0)
                scores.append(_scored(kind, victim))
                if DRILLS[kind].ends_node or victim.record().is_dead:
                    break  # what is left is held on another one
    return scores


@contextmanager
def _victim(place: Place, home: Home, store: Store, clock: Clock) -> Iterator[Victim]:
    with Undoing() as undoing:
        victim = Victim(place, home, store, clock, undoing)
        victim.begin()
        clock.sleep(SETTLE_S)
        yield victim


def _scored(kind: str, victim: Victim) -> Score:
    wanted, before = DRILLS[kind].wanted, victim.sight()
    clock = victim.clock
    victim.struck_from, began_at = clock.monotonic(), clock.now()
    STRIKES[kind](victim)
    struck_at, began = clock.now(), victim.struck_from
    deadline = began + PATIENCE * DRILLS[kind].limit_s
    while not (found := is_answered(wanted, before, victim.sight(), struck_at)) and clock.monotonic() < deadline:
        clock.sleep(LOOK_S)
    found_s = round(clock.monotonic() - began, 2) if found else None
    nodes = [entry.key.removeprefix(NODES) for entry in victim.store.scan(NODES)]
    told = [d for node in nodes for d in explain(victim.store, node) if d.decided_at >= began_at]
    false = false_actions(wanted, told, victims=victim.nodes, nodes=nodes)
    said = max((d for d in told if d.subject in victim.nodes), key=lambda d: d.decided_at, default=None)
    return score(kind, found_s, false, said.reason if said else "nothing was decided")
