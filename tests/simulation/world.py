"""A cluster that exists only in memory, with scripted faults, for the controller that drives the real one."""

from dataclasses import dataclass, field

from platformops import controller
from platformops.clock import ManualClock
from platformops.controller import Node, take_over, turn
from platformops.delivery.decisions import explain
from platformops.delivery.reconcile import keep
from platformops.delivery.records import (
    Evaluation,
    ExaminationKind,
    ParityReport,
    Replay,
    RevisionState,
    RevisionStatus,
    RolloutState,
)
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import load_systems, newest_rollout, request_release, rollouts
from platformops.errors import ClusterError, StoreConflict
from platformops.registry.records import Lineage
from platformops.registry.registry import aliases, register
from platformops.spec.types import PlatformSpec
from platformops.store.memory import MemoryStore

TICK_S = 0.5


class Killed(BaseException):
    """The controller's process is gone; no `except` of the product may catch it."""


@dataclass
class Script:
    """What goes wrong, by revision name; everything else goes well."""

    broken: dict[str, str] = field(default_factory=dict)
    """Cannot start: the reason."""
    stuck: set[str] = field(default_factory=set)
    """Starts for ever."""
    weak: set[str] = field(default_factory=set)
    """Evaluated with an accuracy of 0.5."""
    wrong: set[str] = field(default_factory=set)
    """Answers otherwise than offline."""
    dies_under_traffic: set[str] = field(default_factory=set)
    disagreement: float | None = 0.01
    """Share of test rows on which candidates are said to answer otherwise than stable."""
    start_s: float = 3.0
    unreachable_until_s: float = 0.0


class FakeCluster:
    """The controller's ports. Passes the contract in `ports_contract`, as the real ones do."""

    def __init__(self, clock, script=None, *, touch=lambda what: None, traffic=None):
        self.clock, self.script, self.touch, self.traffic = clock, script or Script(), touch, traffic
        self.deployed, self.routes, self.done, self.under_way = {}, {}, {}, {}
        self.removed = []

    def _reach(self, what):
        self.touch(what)
        if self.clock.now() < self.script.unreachable_until_s:
            raise ClusterError("the cluster does not answer")

    def revisions(self):
        self._reach("revisions")
        return {name: self._status(name) for name in self.deployed}

    def _status(self, name):
        since = self.deployed[name]
        took_traffic = any(r.weights.get(name) for r in self.routes.values())
        if name in self.script.broken:
            return RevisionStatus(RevisionState.FAILED, 0, 1, self.script.broken[name], since)
        if self.traffic and self.traffic.in_crash_loop(name):
            return RevisionStatus(RevisionState.FAILED, 0, 1, "crash loop", since)
        if name in self.script.dies_under_traffic and took_traffic:
            return RevisionStatus(RevisionState.FAILED, 0, 1, "crash loop", since)
        if name in self.script.stuck or self.clock.now() - since < self.script.start_s:
            return RevisionStatus(RevisionState.STARTING, 0, 1, "", since)
        return RevisionStatus(RevisionState.READY, 1, 1, "", since)

    def routed(self, systems):
        self._reach("routed")
        return {s: self.routes[s].token for s in systems if s in self.routes}

    def nodes(self):
        self._reach("nodes")
        return (Node("n1", "127.0.0.1", "alive", 2.0),)

    def deploy(self, revision):
        self._reach(f"deploy {revision.name}")
        name = revision.name
        if name not in self.deployed or self._status(name).state is RevisionState.FAILED:
            self.deployed[name] = self.clock.now()

    def remove(self, name):
        self._reach(f"remove {name}")
        if self.deployed.pop(name, None) is not None:
            self.removed.append(name)

    def set_route(self, route):
        self._reach(f"set_route {route.token}")
        present = self.routes.get(route.system)
        if present and route.token < present.token:
            raise StoreConflict(f"token {route.token} is older than {present.token}")
        self.routes[route.system] = route

    def examine(self, request):
        self._reach(f"examine {request.key}")
        self.under_way.setdefault(request.key, (self.clock.now(), request))

    def examined(self, key):
        self._reach(f"examined {key}")
        if key not in self.under_way or self.clock.now() - self.under_way[key][0] < 1.0:
            return None
        request = self.under_way[key][1]
        name = request.rollout.candidate.name
        if request.kind is ExaminationKind.OFFLINE:
            accuracy = 0.5 if name in self.script.weak else 0.97
            return Evaluation({"accuracy": accuracy}, disagreement=self.script.disagreement)
        largest = 0.4 if name in self.script.wrong else 1e-6
        return Replay(64, 64, tuple(float(i) for i in range(1, 65)), ParityReport(64, largest, "row 7"))

    def tallies(self):
        self._reach("tallies")
        return self.traffic.tallies() if self.traffic else ()

    def forget_processes(self):
        """A power cut: nothing runs any more, and the router knows nothing."""
        self.deployed, self.routes, self.under_way = {}, {}, {}

    def lose_memory(self):
        """The controller's process died: examinations that were under way are gone."""
        self.under_way = {}

    def answers(self, system):
        """Whether a user's request to the system would be answered."""
        route = self.routes.get(system)
        names = [n for n, w in route.weights.items() if w] if route else []
        return bool(names) and all(n in self.deployed and self._status(n).state is RevisionState.READY for n in names)


class CountingStore(MemoryStore):
    """Counts its commits: what is recorded is checked when it has changed."""

    commits = 0

    def commit(self, puts):
        versions = super().commit(puts)
        self.commits += any(not p.key.startswith("status/") for p in puts)
        return versions


class FaultyStore:
    """The memory store, whose operations can be made to kill the controller before or after, or to conflict."""

    def __init__(self, inner, touch):
        self._inner, self._touch = inner, touch

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def commit(self, puts):
        self._touch("before commit")
        versions = self._inner.commit(puts)
        self._touch("after commit")
        return versions

    def put(self, key, value, *, expect):
        self._touch(f"before put {key}")
        version = self._inner.put(key, value, expect=expect)
        self._touch(f"after put {key}")
        return version


class World:
    """Store, clock, fake cluster and a controller that is restarted when it dies."""

    def __init__(self, script=None, *, kill_at=(), conflict_at=(), traffic=None, release=None):
        self.clock, self.touches, self.kill_at, self.conflict_at = ManualClock(), 0, set(kill_at), set(conflict_at)
        self.store = CountingStore()
        self.checked_at = 0
        self.cluster = FakeCluster(self.clock, script, touch=self._touch, traffic=traffic)
        self.epoch, self.kills, self.problems = None, 0, []
        self.spec = PlatformSpec.model_validate(
            {
                "system": "img",
                "gates": {"accuracy": ">= 0.9", "p99_ms": "<= 80"},
                "serve": {"timeout_s": 1.0},
                "release": {"steps": ("100%",), "keep_warm": "1s", "watch": "1s", **(release or {})},
            }
        )

    def _touch(self, what):
        self.touches += 1
        if self.touches in self.kill_at:
            raise Killed(what)
        if self.touches in self.conflict_at and what == "before commit":
            raise StoreConflict("somebody else wrote first")

    def version(self, number):
        return register(
            self.store,
            model="img",
            fingerprint=f"f{number}",
            artifacts={
                s: {"fingerprint": f"{s}{number}", "manifest_digest": f"m{number}"} for s in ("train", "evaluate")
            },
            metrics={"accuracy": 0.97},
            params={},
            lineage=Lineage({}, {}, "run", "abc", False),
            now=self.clock.now(),
        )

    def release(self, number, spec=None, *, queue=False):
        spec, version = spec or self.spec, self.version(number)
        return request_release(self.store, spec, version, classes=("cat", "dog"), now=self.clock.now(), queue=queue)

    def turn(self):
        """One turn, half a second; a killed controller is replaced by the next turn's."""
        self.clock.sleep(TICK_S)
        if self.cluster.traffic:
            self.cluster.traffic.advance(TICK_S, self.cluster.routes.get("img"))
        store = FaultyStore(self.store, self._touch)
        try:
            if self.epoch is None:
                self.epoch = take_over(store, "simulated", self.clock.now())
            self.problems += turn(store, self.cluster, self.clock, self.epoch).problems
        except ClusterError as error:
            self.problems.append(error.message)
        except Killed:
            self.kills, self.epoch = self.kills + 1, None
            self.cluster.lose_memory()
        if self.store.commits != self.checked_at:
            self.checked_at = self.store.commits
            check_always(self)

    def run(self, seconds):
        for _ in range(int(seconds / TICK_S)):
            self.turn()
        return self

    def until_settled(self, limit_s=900):
        """Until no rollout runs and everything is as recorded; fails when that takes longer."""
        for _ in range(int(limit_s / TICK_S)):
            self.turn()
            rollout, _ = newest_rollout(self.store, "img")
            if rollout and not is_running(rollout):
                self.run(9)  # longer than a revision drains
                check_settled(self)
                return rollout
        raise AssertionError(f"still running after {limit_s} s: {newest_rollout(self.store, 'img')[0]}")

    @property
    def system(self):
        return load_systems(self.store)["img"][0]


def check_always(world):
    """What must be true at every instant, whatever has just failed."""
    for name, (system, _) in load_systems(world.store).items():
        routes = [r for r in (system.route, world.cluster.routes.get(name)) if r]
        assert all(abs(sum(r.weights.values()) - 100) < 1e-9 for r in routes), "weights sum to 100"
        all_rollouts = rollouts(world.store, name)
        promoted = [r for r in all_rollouts if r.state is RolloutState.PROMOTED]
        newest = promoted[0].candidate if promoted else None
        assert system.stable == newest, "one stable, which is what was promoted last"
        assert sum(is_running(r) for r in all_rollouts) <= 1, "one rollout at a time"
        for rollout in all_rollouts:
            told = explain(world.store, rollout.name, limit=1)
            assert told, "every decision is recorded"
            assert told[0].reason == rollout.reason


def check_settled(world):
    """What must be true once nothing moves any more."""
    for name, (system, _) in load_systems(world.store).items():
        rollout, _ = newest_rollout(world.store, name)
        assert set(world.cluster.deployed) == keep(system, rollout, world.clock.now()), "no orphan, nothing missing"
        if system.stable and system.wanted == "up":
            assert world.cluster.answers(name)
            assert world.cluster.routes[name].weights == {system.stable.name: 100.0}
            assert aliases(world.store, "img")["champion"].number == system.stable.version
        status = world.store.get(controller.STATUS).value
        assert status["systems"], "the controller says what it sees"
