"""A cluster in memory for whole releases: the real controller turns, traffic is generated, the clock jumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.release_traffic import Profile, Traffic
from platformops.clock import ManualClock
from platformops.controller import Node, take_over, turn
from platformops.delivery.decisions import explain
from platformops.delivery.evidence import Tallies
from platformops.delivery.reconcile import keep
from platformops.delivery.records import (
    Evaluation,
    ExaminationKind,
    Examine,
    Examined,
    ParityReport,
    Replay,
    Revision,
    RevisionState,
    RevisionStatus,
    Rollout,
    RolloutState,
    Route,
)
from platformops.delivery.rollout import SPLIT, is_running
from platformops.delivery.systems import load_systems, newest_rollout, request_release
from platformops.errors import StoreConflict
from platformops.registry.records import Lineage
from platformops.registry.registry import register
from platformops.spec.types import PlatformSpec
from platformops.store.records import ABSENT, Entry, JsonObject, Put

SYSTEM = "sim"
STEPS = ("shadow", "1%", "10%", "50%", "100%")
SHORTEST_TURN_S = 0.5
GROWTH_RATIO = 0.08
"""A turn while requests are compared is long enough for so much more evidence: looking rarer finds harm later and
raises fewer alarms, and a thousand releases take a minute."""
FEWEST = 4.0
"""New requests a turn."""


class QuickStore:
    """A store that keeps values as they are: JSON text costs more than everything that is simulated."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[JsonObject | None, int]] = {}

    def get(self, key: str) -> Entry | None:
        value, version = self._rows.get(key, (None, ABSENT))
        return Entry(key, value, version) if value is not None else None

    def scan(self, prefix: str, *, limit: int | None = None, descending: bool = False) -> Sequence[Entry]:
        keys = sorted((k for k in self._rows if k.startswith(prefix)), reverse=descending)
        return tuple(entry for key in keys if (entry := self.get(key)))[:limit]

    def put(self, key: str, value: JsonObject, *, expect: int | None) -> int:
        return self.commit([Put(key, value, expect)])[0]

    def commit(self, puts: Sequence[Put]) -> tuple[int, ...]:
        for put in puts:
            value, version = self._rows.get(put.key, (None, ABSENT))
            present = version if value is not None else ABSENT
            if put.expect is not None and put.expect != present:
                raise StoreConflict(f"{put.key} is at version {present}, not {put.expect}")
        for put in puts:
            self._rows[put.key] = (put.value, self._rows.get(put.key, (None, ABSENT))[1] + 1)
        return tuple(self._rows[put.key][1] if put.value is not None else ABSENT for put in puts)

    def close(self) -> None:
        pass


@dataclass
class Candidate:
    """What is released: how it behaves under traffic, and what it does before."""

    profile: Profile = field(default_factory=Profile)
    broken: str = ""
    """Why it cannot start."""
    unreadable: str = ""
    """What is wrong with its answers before it has traffic."""


class SimulatedCluster:
    """The controller's ports over generated traffic."""

    def __init__(self, clock: ManualClock, traffic: Traffic, candidate: Candidate) -> None:
        self.clock, self.traffic, self.candidate = clock, traffic, candidate
        self.deployed: dict[str, float] = {}
        self.route: Route | None = None
        self._asked: dict[str, tuple[float, Examine]] = {}

    def revisions(self) -> Mapping[str, RevisionStatus]:
        return {name: self._status(name) for name in self.deployed}

    def _status(self, name: str) -> RevisionStatus:
        is_candidate, since = name == f"{SYSTEM}-r2", self.deployed[name]
        if is_candidate and self.candidate.broken:
            return RevisionStatus(RevisionState.FAILED, 0, 1, self.candidate.broken, since)
        if self.traffic.in_crash_loop(name):
            return RevisionStatus(RevisionState.FAILED, 0, 1, "crash loop", since)
        if self.clock.now() - since < 3.0:
            return RevisionStatus(RevisionState.STARTING, 0, 1, "", since)
        return RevisionStatus(RevisionState.READY, 1, 1, "", since)

    def routed(self, systems: Sequence[str]) -> Mapping[str, int]:
        return {self.route.system: self.route.token} if self.route else {}

    def nodes(self) -> Sequence[Node]:
        return (Node("n1", "127.0.0.1", "alive", 2.0),)

    def deploy(self, revision: Revision) -> None:
        self.deployed.setdefault(revision.name, self.clock.now())

    def remove(self, name: str) -> None:
        self.deployed.pop(name, None)

    def set_route(self, route: Route) -> None:
        if self.route and route.token < self.route.token:
            raise StoreConflict(f"token {route.token} is older than {self.route.token}")
        self.route = route

    def examine(self, request: Examine) -> None:
        self._asked.setdefault(request.key, (self.clock.now(), request))

    def examined(self, key: str) -> Examined | None:
        asked_at, request = self._asked.get(key, (self.clock.now(), None))
        if request is None or self.clock.now() - asked_at < 1.0:
            return None
        if request.kind is ExaminationKind.OFFLINE:
            return Evaluation({"accuracy": 0.97}, disagreement=0.01)
        if request.rollout.number == 2 and self.candidate.unreadable:
            return Replay(1, 0, (), None, self.candidate.unreadable)
        return Replay(64, 64, (5.0,) * 64, ParityReport(64, 1e-6, "row 7"))

    def tallies(self) -> Sequence[Tallies]:
        return self.traffic.tallies()


@dataclass(frozen=True)
class Outcome:
    """How one release ended."""

    state: RolloutState
    caught_by: str
    """The gate or guard that stopped it; empty when nothing did."""
    trials: int
    """Requests and copies that the candidate answered."""
    requests: int
    exposed: int
    """Of requests, those that the candidate was asked to answer."""
    seconds: float


def released(spec: PlatformSpec, traffic: Traffic, candidate: Candidate) -> Outcome:
    """The second release of a system, from the request to its end, every invariant checked on the way."""
    clock, store = ManualClock(), QuickStore()
    cluster = SimulatedCluster(clock, traffic, candidate)
    epoch = take_over(store, "simulation", clock.now())
    for number in (1, 2):
        version = register(
            store, model=SYSTEM, fingerprint=f"f{number}", metrics={"accuracy": 0.97}, params={},
            artifacts={s: {"fingerprint": f"{s}{number}", "manifest_digest": "m"} for s in ("train", "evaluate")},
            lineage=Lineage({}, {}, "run", "abc", False), now=clock.now(),
        )  # fmt: skip
        traffic.requests, traffic.exposed = 0, {}
        asked_at = clock.now()
        rollout = request_release(store, spec, version, classes=("a", "b"), now=asked_at)
        while is_running(rollout):
            _pass(clock, cluster, rollout)
            turn(store, cluster, clock, epoch)
            newest, _ = newest_rollout(store, SYSTEM)
            assert newest is not None, "it was asked for"
            rollout = newest
            check(store, cluster, rollout)
    took_s = clock.now() - asked_at
    _settle(store, cluster, clock, epoch)
    failed = [g.name for g in rollout.gates if not g.passed]
    caught_by = failed[0] if failed else ("crash loop" if rollout.state is not RolloutState.PROMOTED else "")
    exposed = traffic.exposed.get(rollout.candidate.name, 0)
    trials = sum(t.trials for t in traffic.tallies()[0].revisions.get(rollout.candidate.name, {}).values())
    return Outcome(rollout.state, caught_by, trials, traffic.requests, exposed, took_s)


def _pass(clock: ManualClock, cluster: SimulatedCluster, rollout: Rollout) -> None:
    seconds, rate = SHORTEST_TURN_S, cluster.traffic.rate_per_s
    if rollout.state in SPLIT and rollout.routed_at is not None and rate > 0:
        trials = cluster.traffic.asked(rollout.candidate.name)
        seconds = max(SHORTEST_TURN_S, max(FEWEST, GROWTH_RATIO * trials) / rate)
        bakes_until = rollout.routed_at + rollout.terms.min_bake_s
        if clock.now() < bakes_until:
            seconds = min(seconds, max(SHORTEST_TURN_S, bakes_until - clock.now()))
    clock.sleep(seconds)
    cluster.traffic.advance(seconds, cluster.route)


def check(store: QuickStore, cluster: SimulatedCluster, rollout: Rollout) -> None:
    """What must be so at every instant."""
    system, _ = load_systems(store)[SYSTEM]
    for route in (system.route, cluster.route):
        assert route is None or abs(sum(route.weights.values()) - 100) < 1e-9, "weights sum to 100"
    told = explain(store, rollout.name, limit=1)
    assert told, "every decision has a record"
    assert told[0].reason == rollout.reason, "and the record says why"


def _settle(store: QuickStore, cluster: SimulatedCluster, clock: ManualClock, epoch: int) -> None:
    """After what was replaced has left: one stable, all traffic on it, no orphan."""
    for _ in range(3):
        clock.sleep(1000.0)
        turn(store, cluster, clock, epoch)
    system, _ = load_systems(store)[SYSTEM]
    rollout, _ = newest_rollout(store, SYSTEM)
    assert system.stable is not None, "one stable"
    assert cluster.route is not None, "that is routed"
    assert dict(cluster.route.weights) == {system.stable.name: 100.0}, "with all traffic"
    assert not cluster.route.shadow, "and no copies"
    assert set(cluster.deployed) == keep(system, rollout, clock.now()), "no orphan, nothing missing"


def spec_in_steps() -> PlatformSpec:
    """All defaults, but in steps: releases are guarded where a spec asks for them."""
    return PlatformSpec.model_validate({"system": SYSTEM, "gates": {"accuracy": ">= 0.9"}, "release": {"steps": STEPS}})


def with_errors(profile: Profile, more: float) -> Profile:
    return replace(profile, errors=profile.errors + more)
