"""The crank of node health: hear, judge, commit, act; a few times a second, in a thread of its own.

A second lease fences it, so that it never waits for a release and no release waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from platformops.clock import Clock
from platformops.delivery.decisions import decision_puts
from platformops.errors import PlatformError
from platformops.health.calibration import Record
from platformops.health.crashes import Life
from platformops.health.decide import decide
from platformops.health.guard import Guard
from platformops.health.hazard import DAY_S, class_prior, hazard_per_s
from platformops.health.nodes import (
    GUARD,
    LEARNT,
    NODES,
    POLICIES,
    WISHES,
    Learnt,
    Member,
    NodeRecord,
    Policy,
    Wish,
    Wished,
    guard_from,
    guard_json,
    learnt_from,
    learnt_json,
    node_from,
    node_json,
    policy_from,
    steps_of,
    strictest,
    waits_for,
    wish_from,
)
from platformops.health.records import ChannelAnswer, LivenessVerdict
from platformops.health.remedy import Choice
from platformops.health.risk import Risk
from platformops.health.sight import (
    AWAY,
    SILENT_PROBE_S,
    Action,
    Avoid,
    Checkpoint,
    Decided,
    Drain,
    PlaceProbe,
    Retire,
    Seen,
)
from platformops.health.watch import ROUND_S, Watch
from platformops.health.wire import Order, Report
from platformops.scheduler.records import Team
from platformops.scheduler.teams import TEAMS, team_from
from platformops.store.lease import fence, held, take
from platformops.store.records import Json, JsonObject, Put, Store

LEASE = "lease/fleet"
STATUS = "status/fleet"
STATUS_EVERY_S = 2.0
STATUS_NODES_A_S = 250.0
"""A table of more nodes is written less often, up to LONGEST_STATUS_S; a decision is told at once all the same."""
LONGEST_STATUS_S = 8.0
DECIDE_EVERY_S = 1.0
"""Beats are heard at each turn; what they mean is judged this often, and at once after a verdict."""
WISHES_EVERY_S = 1.0
STALLED_S = 1.0
"""A turn that comes so late after the last one finds old news."""
FORGET_DEAD_S = 7.0 * DAY_S
FORGET_DRILL_S = 900.0


@dataclass(frozen=True, slots=True)
class Share:
    """The cluster knows what each team may use, as people set it."""

    teams: Mapping[str, Team]


class FleetPorts(Protocol):
    """What the edge does for node health. Each call returns at once; one that raises PlatformError is made again."""

    def members(self) -> Sequence[Member]:
        """The cluster's own table, at most a few seconds old."""
        ...

    def reports(self) -> Sequence[Report]:
        """What probes said since the last call."""
        ...

    def waiting(self) -> Sequence[JsonObject]:
        """`{"name", "team", "since", "reason"}` of each gang that waits for room."""
        ...

    def answers(self) -> Sequence[tuple[str, ChannelAnswer]]:
        """What came of second channels since the last call."""
        ...

    def serving(self) -> Mapping[str, Mapping[str, float]] | None:
        """Revision -> node -> median seconds of its calls of late; None while there is nothing new."""
        ...

    def lives(self) -> Sequence[Life] | None:
        """Of the replicas that live, and of those that ended within a day; None while there is nothing new."""
        ...

    def ask(self, node: str) -> None:
        """Begins to ask for the node by another way than its probe, unless that is under way."""
        ...

    def order(self, order: Order) -> None:
        """To the probe that was heard last from that node."""
        ...

    def place_probe(self, node: str, incarnation: int) -> None:
        """Begins to start a probe there, unless that is under way."""
        ...

    def retire(self, node: str, reason: str) -> None: ...

    def drain(self, node: str, reason: str) -> None: ...

    def avoid(self, nodes: Sequence[str], suspects: Sequence[str], rates_per_s: Mapping[str, float]) -> None: ...

    def checkpoint(self, node: str, at: float) -> None: ...

    def share(self, teams: Mapping[str, Team]) -> None:
        """What each team may use, by its name."""
        ...


class ReplicaJudge(Protocol):
    """What follows from the lives of replicas for the versions that they serve."""

    def look(self, lives: Sequence[Life], sound: Collection[str], now: float) -> tuple[str, ...]:
        """What could not be done, to be tried again; `sound` are the nodes that live."""
        ...


class FleetController:
    """One controller's life. Everything but the watch is in the store; the watch is heard anew within seconds."""

    def __init__(
        self, store: Store, ports: FleetPorts, clock: Clock, holder: str, *, replicas: ReplicaJudge | None = None
    ) -> None:
        self._store, self._ports, self._clock, self._replicas = store, ports, clock, replicas
        self.epoch = take(store, LEASE, holder, clock.now())
        self._watch = Watch(now=clock.now())
        self._records = {e.key.removeprefix(NODES): node_from(e.value) for e in store.scan(NODES)}
        guard, learnt = store.get(GUARD), store.get(LEARNT)
        self._guard = guard_from(guard.value) if guard else Guard()
        self._learnt = learnt_from(learnt.value) if learnt else Learnt(Record(clock.now()))
        self._wishes: Mapping[str, Wished] = {}
        self._policy, self._teams = Policy(), dict[str, Team]()
        self._risks: dict[str, Risk] = {}
        self._choices: dict[str, Choice] = {}
        """Of each node as it was judged last."""
        self._members: Mapping[str, Member] = {}
        self._turned_at = clock.now()
        self._wishes_at = self._status_at = self._listed_at = self._decided_at = self._paced_at = -math.inf

    def turn(self) -> tuple[str, ...]:
        """One turn; what could not be done, to be tried again. Raises LeaseLost when a newer controller has taken
        over, and StoreError when nothing can be kept; nothing has then been done."""
        now = self._clock.now()
        if now - self._listed_at >= DECIDE_EVERY_S:
            self._listed_at = now
            self._members = {m.id: m for m in self._ports.members()}
            self._listen(self._members, now)
        verdicts = self._hear(now)
        if not verdicts and now - self._decided_at < DECIDE_EVERY_S:
            return ()
        self._decided_at, members = now, self._members
        decided = decide(self._seen(members, verdicts, now), now)
        self._risks = {n: r for n, r in (self._risks | decided.risks).items() if n in members}
        self._choices = {n: c for n, c in (self._choices | decided.choices).items() if n in members}
        self._commit(decided)
        problems = (*self._act(decided), *self._judge_replicas(now))
        every_s = min(max(STATUS_EVERY_S, len(members) / STATUS_NODES_A_S), LONGEST_STATUS_S)
        if now - self._status_at >= every_s or decided.decisions:
            self._status_at = now
            self._store.put(STATUS, self._status(decided, members, problems, now), expect=None)
        return problems

    def _listen(self, members: Mapping[str, Member], now: float) -> None:
        living = {n for n, m in members.items() if m.is_alive}
        prior = class_prior(r.history for r in self._records.values() if not r.drill)
        for node in living:
            record = self._records.get(node)
            hazard = hazard_per_s(record.history, prior, now) if record else prior.mean_per_s
            was_beating = record is not None and not record.is_dead and now - record.placed_at > SILENT_PROBE_S
            beating = record.incarnation if record and was_beating else None
            self._watch.add(node, hazard, now, beating=beating, cpus=members[node].cpus)
        self._watch.keep_only(living)

    def _hear(self, now: float) -> tuple[LivenessVerdict, ...]:
        reports = self._ports.reports()
        verdicts = list(self._watch.hear(reports, now))
        if now - self._turned_at > STALLED_S:
            self._watch.forget_stopped()
        self._turned_at = now
        for node, answer in self._ports.answers():
            self._watch.hear_channel(node, answer, now)
        if (served := self._ports.serving()) is not None:
            self._watch.hear_calls(served)
        if now - self._paced_at >= ROUND_S:
            self._paced_at = now
            living = [m for m in self._members.values() if m.is_alive]
            used = {m.id: m.used_cpus / m.cpus for m in living if m.cpus > 0.0}
            self._watch.hear_steps(steps_of(living), used, now)
        ticked = self._watch.tick(now)
        for node in ticked.asks:
            self._ports.ask(node)
        for report in reports:
            self._answer(report)
        return (*verdicts, *ticked.verdicts)

    def _answer(self, report: Report) -> None:
        record = self._records.get(report.heartbeat.node)
        if record is None:
            return
        member = self._members.get(record.id)
        end_server = record.is_dead and member is not None and not member.is_vital
        killed = {(k.pid, k.started) for k in record.killed}
        kill = tuple((p.pid, p.started) for p in report.stopped if (p.pid, p.started) in killed)
        self._ports.order(Order(record.id, self.epoch, record.incarnation, report.heartbeat.sequence, kill, end_server))

    def _seen(self, members: Mapping[str, Member], verdicts: tuple[LivenessVerdict, ...], now: float) -> Seen:
        if now - self._wishes_at >= WISHES_EVERY_S:
            self._wishes_at = now
            self._wishes = {e.key.removeprefix(WISHES): wish_from(e.value) for e in self._store.scan(WISHES)}
            self._policy = self._policy_now()
            self._teams = {(team := team_from(e.value)).name: team for e in self._store.scan(TEAMS)}
        views = {n: self._watch.view(n, now) for n, m in members.items() if m.is_alive}
        kept = self._guard, self._learnt, self.epoch, self._policy
        return Seen(members, self._records, views, self._wishes, verdicts, *kept)

    def _policy_now(self) -> Policy:
        """Of the systems that are up, or about to be."""
        down = {e.value["name"] for e in self._store.scan("system/") if e.value["wanted"] == "down"}
        found = {e.key.removeprefix(POLICIES): policy_from(e.value) for e in self._store.scan(POLICIES)}
        return strictest(policy for name, policy in found.items() if name not in down)

    def _commit(self, decided: Decided) -> None:
        """All that changed, or nothing: a verdict that was not kept was not made."""
        lease = held(self._store, LEASE, self.epoch)
        puts = [
            Put(NODES + node, node_json(record), expect=None)
            for node, record in decided.records.items()
            if record is not (before := self._records.get(node)) and _lasting(record) != _lasting(before)
        ]
        if decided.guard != self._guard:
            puts.append(Put(GUARD, guard_json(decided.guard), expect=None))
        if decided.learnt != self._learnt:
            puts.append(Put(LEARNT, learnt_json(decided.learnt), expect=None))
        old = [n for n, r in decided.records.items() if r.is_dead and self._is_forgotten(r)]
        old += self._records.keys() - decided.records.keys()
        puts += [Put(NODES + node, None, expect=None) for node in old]
        if puts:
            self._store.commit([fence(lease), *puts, *decision_puts(self._store, decided.decisions)])
        self._records = {n: r for n, r in decided.records.items() if n not in old}
        self._guard, self._learnt = decided.guard, decided.learnt

    def _is_forgotten(self, record: NodeRecord) -> bool:
        return self._clock.now() - record.condition.since > (FORGET_DRILL_S if record.drill else FORGET_DEAD_S)

    def _act(self, decided: Decided) -> tuple[str, ...]:
        problems = []
        for action in (*decided.actions, Share(self._teams)):
            try:
                self._do(action)
            except PlatformError as error:
                problems.append(f"{type(action).__name__}: {error.message}")
        return tuple(problems)

    def _do(self, action: Action | Share) -> None:
        match action:
            case PlaceProbe(node=node, incarnation=incarnation):
                self._ports.place_probe(node, incarnation)
            case Retire(node=node, reason=reason):
                self._ports.retire(node, reason)
            case Drain(node=node, reason=reason):
                self._ports.drain(node, reason)
            case Avoid(nodes=nodes, suspects=suspects, rates_per_s=rates_per_s):
                self._ports.avoid(nodes, suspects, rates_per_s)
            case Checkpoint(node=node, at=at):
                self._ports.checkpoint(node, at)
            case Share(teams=teams):
                self._ports.share(teams)
            case _:
                assert_never(action)

    def _judge_replicas(self, now: float) -> tuple[str, ...]:
        if self._replicas is None or (lives := self._ports.lives()) is None:
            return ()
        sound = {n for n, m in self._members.items() if m.is_alive and not self._records[n].is_dead}
        ours = {(n, k.pid) for n, record in self._records.items() for k in record.killed}
        lives = [replace(one, has_crashed=one.has_crashed and (one.node, one.pid) not in ours) for one in lives]
        return self._replicas.look(lives, sound, now)

    def _status(
        self, decided: Decided, members: Mapping[str, Member], problems: Sequence[str], now: float
    ) -> JsonObject:
        rows: list[Json] = [self._row(n, decided, members[n], now) for n in sorted(members) if n in decided.records]
        guard = decided.guard
        breaker = guard.opened_because if guard.opened_at is not None else ""
        status: JsonObject = {"at": now, "epoch": self.epoch, "nodes": rows, "problems": list(problems)}
        return {**status, "breaker": breaker, "waiting": list(self._ports.waiting())}

    def _row(self, node: str, decided: Decided, member: Member, now: float) -> JsonObject:
        record, risk, choice = decided.records[node], self._risks.get(node), self._choices.get(node)
        wished = self._wishes.get(node, Wished())
        view = self._watch.view(node, now) if member.is_alive else None
        is_cordoned = wished.wish in (Wish.CORDONED, Wish.DRAINED) or record.remedy in AWAY
        slow: list[Json] = [view.slow.words] if view and view.slow else []
        reasons: list[Json] = slow + [t.words for t in (risk.terms if risk else ()) if abs(t.log_odds) > 0.05]
        return {
            "id": node,
            "address": record.address,
            "state": record.condition.state.value,
            "since": record.condition.since,
            "liveness": view.liveness.value if view else "dead",
            "heard_s_ago": round(view.heard_s_ago, 2) if view and view.heard_s_ago is not None else None,
            "is_head": member.is_head,
            "is_vital": member.is_vital,
            "is_draining": member.is_draining,
            "waits_for": waits_for(member),
            "is_drill": bool(record.drill),
            "is_cordoned": is_cordoned,
            "wish": wished.wish.value,
            "wished_by": wished.who,
            "probability": risk.actionable if risk else None,
            "horizon_s": risk.horizon_s if risk else None,
            "reasons": reasons[:3],
            "trust": risk.reason if risk else "",
            "remedy": record.remedy.value,
            "planned": choice.remedy.value if choice and not record.is_dead else "",
            "costs_slot_s": {r.value: round(c, 1) for r, c in choice.costs.items()} if choice else {},
            "excluded": {r.value: why for r, why in choice.excluded.items()} if choice else {},
            "reason": record.reason,
            "readings": {k: v for k, v in view.readings.items() if v is not None} if view else {},
            "failures": round(record.history.failures, 3),
        }


def _lasting(record: NodeRecord | None) -> NodeRecord | None:
    """Without the penalty that fades by itself: writing it down four times a second would say nothing new."""
    if record is None:
        return None
    return replace(record, condition=replace(record.condition, penalty=0.0, penalty_at=0.0))
