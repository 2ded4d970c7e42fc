"""What follows for each node from what is seen of the fleet: new records, and decisions with their reasons. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from platformops.delivery.records import Decision
from platformops.health import lessons
from platformops.health.asking import actions_of
from platformops.health.calibration import trust
from platformops.health.fold import CALM_RATIO, Condition, Observation, Transition, fold
from platformops.health.guard import Fleet, Guard, Order, Ruling, rule
from platformops.health.hazard import NodeHistory
from platformops.health.nodes import Killed, Member, NodeRecord, Wish, Wished
from platformops.health.records import LivenessState
from platformops.health.remedy import LEAST_THRESHOLD, Choice, Prices, Remedy, Suspicion, Workload, acts_from, choose
from platformops.health.risk import Risk
from platformops.health.sight import AWAY, CLASS, SILENT_PROBE_S, Decided, Seen, is_heard, is_wanted
from platformops.health.signs import HORIZON_S
from platformops.health.states import NodeState
from platformops.health.watch import View
from platformops.health.wire import RayletState
from platformops.store.records import Json

STOPPED_S = 2.0
"""A worker that a signal holds still for so long is no debugger's step; the kernel says so, no missed answer."""
MOST_KILLED = 20
COMMON_RATIO = 0.2
COMMON_CAUSE_S = 20.0
"""How long nodes that turn ill together are only suspect: of the failures at LANL 7.5 to 20 % come with another node's
within 5 min, and a network or a shared disk that hiccups is back sooner than that."""
FIRST_S = 7.0
"""The first to look ill waits so long for the others: their readings may be five seconds older."""
QUIET_ROUNDS = 5
"""A node about which there is nothing new is judged in one call of so many: of a large fleet that is nearly all."""
CHECKPOINT_EVERY_S = 60.0
"""Between two that are asked of the same node; what is not written by then is no remedy any more."""


def decide(seen: Seen, now: float) -> Decided:
    """Pure: the same sight and instant give the same answer. Of nodes about which there is nothing new a part is judged
    at each call, the others in turn: `risks` and `choices` are of those that were judged."""
    turn = _Turn(seen, now)
    for number, node in enumerate(sorted(seen.members)):
        if (int(now) + number) % QUIET_ROUNDS == 0 or not turn.is_quiet(node):
            turn.judge(node)
    return turn.decided()


class _Turn:
    """One pass over the fleet; holds what the nodes share: guard, lessons and the budget."""

    def __init__(self, seen: Seen, now: float) -> None:
        self._seen, self._now = seen, now
        self._guard, self._learnt = seen.guard, seen.learnt
        # What the cluster's table does not know any more was another cluster's.
        self._records = (
            {n: r for n, r in seen.records.items() if n in seen.members} if seen.members else {**seen.records}
        )
        self._decisions: list[Decision] = []
        self._risks: dict[str, Risk] = {}
        self._choices: dict[str, Choice] = {}
        self._said = {v.node: v for v in seen.verdicts}
        self._living = {n for n, m in seen.members.items() if m.is_alive}
        for node in sorted(self._living - self._records.keys()):
            self._join(seen.members[node])
        self._usable = {n for n in self._living if self._is_usable(n)}
        self._rooms = sorted((seen.members[n].free_cpus, n) for n in self._usable)[-2:]
        self._common = self._common_cause()

    def is_quiet(self, node: str) -> bool:
        """Whether to judge it would change nothing: it is well, as it was, and nobody wants anything of it."""
        record, view, member = self._records.get(node), self._seen.views.get(node), self._seen.members[node]
        if record is None or view is None or node in self._said or node in self._seen.wishes:
            return False
        is_due = record.predicted is None or self._now - record.predicted_at >= HORIZON_S
        was_well = record.condition.state is NodeState.HEALTHY and record.condition.calm_since is not None
        was_well = was_well and record.remedy is Remedy.WAIT and not record.is_dead and not record.drill
        is_well = view.liveness is LivenessState.ALIVE and view.raylet is RayletState.ANSWERS and is_heard(view)
        is_well = is_well and view.slow is None and not view.stopped
        is_well = is_well and view.risk.probability < CALM_RATIO * LEAST_THRESHOLD
        return member.is_alive and not is_due and was_well and is_well and record.incarnation == view.incarnation

    def judge(self, node: str) -> None:
        member, view = self._seen.members[node], self._seen.views.get(node)
        record = self._records.get(node)
        if record is None:  # it was dead before anybody watched it
            return
        dead, why = self._death(record, member, view)
        risk = self._risk(node, view)
        work, prices = self.stakes(member)
        offered = work if self._now - record.checkpoint_at >= CHECKPOINT_EVERY_S else replace(work, checkpoint_s=None)
        slow = view.slow if view is not None else None
        drag = (slow.drag_ratio, self._now - slow.since) if slow else (0.0, 0.0)
        choice = choose(Suspicion(risk.actionable, drag_ratio=drag[0], slow_for_s=drag[1]), offered, prices)
        self._learnt, record = lessons.of_prediction(
            self._learnt, record, member, risk.probability, self._now, is_dead=dead
        )
        wished = self._seen.wishes.get(node, Wished())
        seen = Observation(
            risk.actionable,
            self._acts_from(member),
            is_dead=dead,
            has_passed_burn_in=is_heard(view),
            is_pardoned=wished.wish is Wish.PARDONED and wished.at > record.condition.since,
            held=self._held(record.condition),
            slow=slow.words if slow else "",
            is_too_slow=slow is not None and choice.remedy in AWAY,
            why=why or (risk.terms[0].words if risk.terms and risk.terms[0].log_odds > 0.0 else ""),
        )
        folded = fold(record.condition, seen, self._now, subject=f"node {node}")
        record = replace(record, condition=folded.condition, is_dead=dead)
        if folded.transition is not None:
            record = self._moved(record, member, folded.transition, risk)
        record = self._saved(record, choice, risk)
        record = self._remedied(record, choice, view)
        record = self._restarted(record, view)
        self._records[node], self._risks[node], self._choices[node] = record, risk, choice
        if record.remedy in AWAY or record.is_dead:
            self._usable.discard(node)

    def decided(self) -> Decided:
        actions = actions_of(self._seen, self._records, self._risks, self._now)
        return Decided(
            self._records, self._guard, self._learnt, tuple(self._decisions), actions, self._risks, self._choices
        )

    def stakes(self, member: Member) -> tuple[Workload, Prices]:
        """What runs on the node, by the processors that are reserved there, and what its absence costs."""
        used = max(0.0, member.used_cpus)
        has_room = any(free >= used and n != member.id for free, n in self._rooms) and not member.is_vital
        work = Workload(slots=round(used + 0.49), detection_s=5.0, restart_s=60.0, move_s=5.0, has_spare=has_room)
        if member.gang is not None:
            gang = member.gang
            slots = max(work.slots, gang.slots)
            work = replace(work, slots=slots, unsaved_s=gang.unsaved_s, checkpoint_s=gang.checkpoint_s)
        has_others = any(node != member.id for _, node in self._rooms)
        promised, free = round(member.cpus) or 1, round(member.free_cpus)
        may_drain = self._seen.policy.may_drain
        return work, Prices(HORIZON_S, node_slots=promised, free_slots=free, has_others=has_others, may_drain=may_drain)

    def _acts_from(self, member: Member) -> float:
        """From which probability the node itself is to lose anything: a checkpoint, which costs it nothing, is asked
        for long before."""
        work, prices = self.stakes(member)
        return acts_from(replace(work, checkpoint_s=None), prices)

    def _death(self, record: NodeRecord, member: Member, view: View | None) -> tuple[bool, str]:
        if not member.is_alive:
            return True, "it was stopped" if member.has_ended_well else "the cluster's own table says that it is dead"
        if view is not None and view.liveness is LivenessState.DEAD:
            said = self._said.get(record.id)
            return True, said.reason if said else ""
        # Condemned by an earlier controller, and no beat heard by this one yet: the verdict stands.
        has_beaten = view is not None and view.heard_s_ago is not None and view.raylet is RayletState.ANSWERS
        return record.is_dead and not has_beaten, ""

    def _join(self, member: Member) -> None:
        """A node that is new has the past of the one that died at its address, where no other of that address lives."""
        others = [m for m in self._seen.members.values() if m.address == member.address and m.is_alive]
        others = [m for m in others if m.drill == member.drill]
        dead = [r for r in self._seen.records.values() if r.address == member.address and r.is_dead]
        dead = [r for r in dead if r.drill == member.drill]
        before = max((r for r in dead if not r.is_forgiven), key=lambda r: r.condition.since, default=None)
        if before is None or len(others) > 1:
            fresh = Condition(since=self._now), NodeHistory(self._now)
            self._records[member.id] = NodeRecord(member.id, member.address, *fresh, drill=member.drill)
            return
        back = fold(before.condition, Observation(0.0, 1.0), self._now, subject=f"node {member.id}")
        reason = back.transition.reason if back.transition else before.reason
        self._records[member.id] = NodeRecord(
            member.id, member.address, back.condition, before.history, reason=reason, drill=member.drill
        )
        said = f"{before.condition.state.value} -> {back.condition.state.value}"
        self._say(member.id, said, reason, Risk(0.0, HORIZON_S, 0.0))
        # Its past is the new one's from here on, and counts once.
        self._records[before.id] = replace(before, history=NodeHistory(self._now), is_forgiven=True)

    def _risk(self, node: str, view: View | None) -> Risk:
        if view is None:
            return Risk(0.0, HORIZON_S, 0.0)
        return trust(self._learnt.record, CLASS, view.risk)

    def _is_usable(self, node: str) -> bool:
        record = self._records.get(node)
        wish = self._seen.wishes.get(node, Wished()).wish
        return (
            node in self._living
            and record is not None
            and not record.drill
            and record.condition.state in (NodeState.HEALTHY, NodeState.SUSPECT)
            and record.remedy not in AWAY
            and wish not in (Wish.CORDONED, Wish.DRAINED)
        )

    def _common_cause(self) -> str:
        """Several at once have one cause more often than several: a network, a disk that they share."""
        ill = []
        for node in self._living:
            view, record = self._seen.views.get(node), self._records[node]
            if view is None or view.risk.probability < LEAST_THRESHOLD or record.drill:
                continue
            threshold = self._acts_from(self._seen.members[node])
            is_fresh = record.condition.state not in (NodeState.UNHEALTHY, NodeState.BARRED) or (
                self._now - record.condition.since < COMMON_CAUSE_S
            )
            if is_fresh and self._risk(node, view).actionable >= threshold:
                ill.append(node)
        if len(ill) < 2 or len(ill) <= COMMON_RATIO * len(self._living):
            return ""
        return f"{len(ill)} of {len(self._living)} nodes look ill at once: a common cause, nobody condemned for it"

    def _held(self, condition: Condition) -> str:
        """Why a node that looks ill is only suspect for now."""
        if condition.state not in (NodeState.HEALTHY, NodeState.SUSPECT):
            return ""
        for_s = self._now - condition.since if condition.state is NodeState.SUSPECT else 0.0
        if self._common and for_s < COMMON_CAUSE_S:
            return self._common
        return "" if for_s >= FIRST_S else "it looks ill, and a moment is waited for whether others do too"

    def _moved(self, record: NodeRecord, member: Member, moved: Transition, risk: Risk) -> NodeRecord:
        self._say(record.id, f"{moved.before.value} -> {moved.after.value}", moved.reason, risk)
        if moved.after is NodeState.DEAD:
            if not is_wanted(member) and not record.drill:
                self._learnt = lessons.of_death(self._learnt, record, moved.before, self._now)
            forgiven = is_wanted(member) and record.remedy is Remedy.WAIT
            return replace(record, remedy=Remedy.WAIT, is_refused=False, reason=moved.reason, is_forgiven=forgiven)
        if moved.after is NodeState.HEALTHY and record.remedy is not Remedy.WAIT:
            self._say(record.id, f"{record.remedy.value} is over", moved.reason, risk)
            if not record.drill and record.remedy in AWAY:
                self._learnt = replace(self._learnt, remedies=self._learnt.remedies + 1)
            record = replace(record, remedy=Remedy.WAIT, remedy_at=self._now)
        return replace(record, is_refused=False, reason=moved.reason)

    def _saved(self, record: NodeRecord, choice: Choice, risk: Risk) -> NodeRecord:
        """Work on a node that is suspect or worse writes a checkpoint where that is cheaper than to go on without,
        whatever else is done to the node: it takes nothing from it. Who moves writes one anyway."""
        is_ill = record.condition.state in (NodeState.SUSPECT, NodeState.UNHEALTHY)
        saved, unsaved = choice.costs.get(Remedy.CHECKPOINT, math.inf), choice.costs[Remedy.WAIT]
        if not is_ill or saved >= unsaved or record.remedy in (Remedy.MOVE, Remedy.DRAIN):
            return record
        expected = f"expected {saved:,.0f} slot-seconds with a checkpoint, else {unsaved:,.0f}"
        why = f"fails with {risk.actionable:.1%}; {expected}"
        self._say(record.id, Remedy.CHECKPOINT.value, why, risk, choice)
        return replace(record, checkpoint_at=self._now)

    def _remedied(self, record: NodeRecord, choice: Choice, view: View | None) -> NodeRecord:
        """An unhealthy node gets the remedy of least cost, if the guard lets it; one that is only slow is weighed down,
        which takes nothing from it, and loses more when that costs less."""
        if view is None or choice.remedy in (Remedy.WAIT, Remedy.CHECKPOINT, record.remedy):
            return record
        state, is_mild = record.condition.state, record.remedy in (Remedy.WAIT, Remedy.WEIGH_DOWN)
        if not (state is NodeState.UNHEALTHY and is_mild) and not (
            state is NodeState.SUSPECT and choice.remedy is Remedy.WEIGH_DOWN
        ):
            return record
        order = Order(record.id, choice.remedy, self._seen.epoch, self._now)
        ruling = self._ruling(order, is_drill=bool(record.drill))
        if not ruling.is_allowed:
            if not record.is_refused:
                self._say(record.id, f"no {choice.remedy.value}", ruling.reason, view.risk, choice)
            return replace(record, is_refused=True, reason=ruling.reason)
        self._say(record.id, choice.remedy.value, choice.reason, view.risk, choice)
        saves = choice.costs[Remedy.WAIT] / max(view.risk.actionable, 1e-9) - choice.cost_slot_s
        return replace(
            record, remedy=choice.remedy, remedy_at=self._now, is_refused=False, reason=choice.reason, saves=saves
        )

    def _ruling(self, order: Order, *, is_drill: bool) -> Ruling:
        """What a drill's node loses is not the fleet's: it takes nothing from the budget, and opens no breaker."""
        fleet = self._fleet()
        if is_drill:
            return rule(Guard(self._guard.epoch), order, replace(fleet, num_needed=0), self._now)
        ruling = rule(self._guard, order, fleet, self._now)
        self._guard = ruling.guard
        return ruling

    def _restarted(self, record: NodeRecord, view: View | None) -> NodeRecord:
        """A worker that is held still is ended, so that the cluster sees a crash, which it repairs; a sick probe is
        replaced. Either is said once."""
        if view is None:
            return record
        for one in view.stopped:
            killed = Killed(one.pid, one.started)
            if one.for_s >= STOPPED_S and killed not in record.killed:
                why = f"{one.name} ({one.pid}) is held still by a signal for {one.for_s:.1f} s"
                self._say(record.id, Remedy.RESTART_WORKER.value, why, view.risk)
                record = replace(record, killed=(*record.killed, killed)[-MOST_KILLED:], reason=why)
        return self._probed(record, view)

    def _probed(self, record: NodeRecord, view: View) -> NodeRecord:
        """Which probe is wanted: the next one where the last is sick, or was never heard for too long."""
        is_late = view.incarnation < record.incarnation and self._now - record.placed_at >= SILENT_PROBE_S
        is_sick = view.liveness is LivenessState.PROBE_SICK and (view.incarnation >= record.incarnation or is_late)
        is_lost = view.heard_s_ago is None and view.watched_s >= SILENT_PROBE_S
        if record.is_dead or not (is_sick or record.incarnation == 0 or (is_lost and is_late)):
            return record
        if is_sick:
            said = self._said.get(record.id)
            why = said.reason if said else "its probe is silent, yet its server answers"
            self._say(record.id, "restart its probe", why, view.risk)
        return replace(record, incarnation=record.incarnation + 1, placed_at=self._now)

    def _fleet(self) -> Fleet:
        heard = sum(map(is_heard, self._seen.views.values()))
        used = sum(m.used_cpus for n, m in self._seen.members.items() if n in self._living)
        largest = max((self._seen.members[n].cpus for n in self._living), default=1.0) or 1.0
        needed, budget = max(1, round(used / largest + 0.49)), self._seen.policy.budget_ratio
        return Fleet(len(self._living), len(self._usable), needed, heard, budget_ratio=budget)

    def _say(self, node: str, what: str, reason: str, risk: Risk, choice: Choice | None = None) -> None:
        evidence: list[Json] = [
            {"what": t.words, "log_odds": round(t.log_odds, 3), "weight": t.weight}
            for t in risk.terms[:5]
            if t.log_odds
        ]
        evidence.append({"prior": risk.prior, "probability": risk.probability, "horizon_s": risk.horizon_s})
        if choice is not None:
            costs = {r.value: round(c, 1) for r, c in choice.costs.items()}
            evidence.append({"costs_slot_s": costs, "excluded": {r.value: w for r, w in choice.excluded.items()}})
        would = _would_change(choice) if choice else ""
        self._decisions.append(Decision(node, what, reason, evidence, would, self._now))


def _would_change(choice: Choice) -> str:
    others = [(r, c) for r, c in choice.costs.items() if r is not choice.remedy]
    if not others:
        return ""
    remedy, cost = others[0]
    return f"next best was {remedy.value}, {cost - choice.cost_slot_s:,.0f} slot-seconds dearer"
