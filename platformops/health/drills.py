"""What each fault that is made on purpose ought to lead to, and whether it did: the scorecard of node drills."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum

from platformops.delivery.records import Decision
from platformops.health.nodes import NodeRecord
from platformops.health.remedy import Remedy
from platformops.health.states import NodeState
from platformops.store.records import JsonObject

HEARD_WITHIN_S = 3.0
AWAY = frozenset({Remedy.CORDON, Remedy.MOVE, Remedy.DRAIN})
VIEWS = ("-> suspect", "-> healthy", "-> probation")
"""What only looks at a node takes nothing from it."""


class Wanted(Enum):
    """What ought to become of the node."""

    NEW_PROBE = "a new probe, the node left alone"
    WORKER_ENDED = "the worker ended, the node left alone"
    NEW_CONTROLLER = "a new controller, the node left alone"
    LEFT_ALONE = "nothing: it is over soon, and heard again"
    WEIGHED_DOWN = "new work goes elsewhere, the node left in its place"
    AVOIDED = "no new work, by the remedy of least cost"
    BARRED = "kept out after its third return, until a person looks"
    DEAD = "dead, and the cluster told"


@dataclass(frozen=True, slots=True)
class Drill:
    """One fault."""

    fault: str
    wanted: Wanted
    limit_s: float
    """From the fault to what is wanted; of one that ends by itself, the fault's own time included."""
    ends_node: bool = False


DRILLS: Mapping[str, Drill] = {
    "probe": Drill("its probe is killed", Wanted.NEW_PROBE, 15.0),
    "worker": Drill("a worker process is held still", Wanted.WORKER_ENDED, 10.0),
    "controller": Drill("the controller is killed", Wanted.NEW_CONTROLLER, 60.0),
    "stall": Drill("the controller is held still for 20 s", Wanted.LEFT_ALONE, 80.0),
    "slow": Drill("it has a twentieth of a processor", Wanted.WEIGHED_DOWN, 45.0, ends_node=True),
    "leak": Drill("a process takes the memory that it has", Wanted.AVOIDED, 60.0, ends_node=True),
    "fill": Drill("a file takes its disk", Wanted.AVOIDED, 60.0, ends_node=True),
    "blip": Drill("its network is cut for 3 s", Wanted.LEFT_ALONE, 20.0),
    "partition": Drill("its network is cut for good", Wanted.DEAD, 12.0, ends_node=True),
    "flap": Drill("it dies and comes back three times", Wanted.BARRED, 180.0, ends_node=True),
    "freeze": Drill("its server is held still", Wanted.DEAD, 8.0, ends_node=True),
    "kill": Drill("its server is killed", Wanted.DEAD, 4.0, ends_node=True),
}
"""In the order in which they are held: what ends the node comes after what leaves it as it was."""

IN_FORCE: Mapping[Wanted, frozenset[Remedy]] = {
    Wanted.WEIGHED_DOWN: frozenset({Remedy.WEIGH_DOWN}),
    Wanted.AVOIDED: AWAY,
}
ANSWERS: Mapping[Wanted, frozenset[str]] = {
    Wanted.WORKER_ENDED: frozenset({Remedy.RESTART_WORKER.value}),
    Wanted.WEIGHED_DOWN: frozenset({Remedy.WEIGH_DOWN.value}),
    Wanted.AVOIDED: frozenset(
        {r.value for r in {*AWAY, Remedy.WEIGH_DOWN}} | {f"{s.value} -> unhealthy" for s in NodeState}
    ),
    Wanted.BARRED: frozenset(f"{s.value} -> {after}" for s in NodeState for after in ("dead", "barred")),
    Wanted.DEAD: frozenset(f"{s.value} -> dead" for s in NodeState),
}
"""Decisions about the node itself that the fault asks for; a sick probe may always be replaced."""


@dataclass(frozen=True, slots=True)
class Sight:
    """The drill's node, as the controller has it at one moment."""

    record: NodeRecord
    epoch: int
    """Of the controller."""
    heard_s_ago: float | None
    seen_at: float
    """When the controller said so last."""


@dataclass(frozen=True, slots=True)
class Score:
    kind: str
    fault: str
    wanted: str
    limit_s: float
    found_s: float | None
    false_actions: tuple[str, ...] = ()
    """What was done that the fault did not ask for, to this node or another."""
    said: str = ""
    why_not: str = ""
    """Why it cannot be held on this machine; it has then neither passed nor failed."""
    passed: bool = False

    def document(self) -> JsonObject:
        return asdict(self)


def is_answered(wanted: Wanted, before: Sight, now: Sight, struck_at: float) -> bool:
    """Whether what is wanted has come; `struck_at` is when the fault was in place, or over where it ends by itself."""
    record = now.record
    match wanted:
        case Wanted.NEW_PROBE:
            return record.incarnation > before.record.incarnation and not record.is_dead
        case Wanted.WORKER_ENDED:
            return len(record.killed) > len(before.record.killed) and not record.is_dead
        case Wanted.NEW_CONTROLLER:
            return now.epoch > before.epoch and not record.is_dead
        case Wanted.LEFT_ALONE:
            is_heard = now.heard_s_ago is not None and now.heard_s_ago < HEARD_WITHIN_S
            return is_heard and now.seen_at > struck_at and not record.is_dead and record.remedy is Remedy.WAIT
        case Wanted.WEIGHED_DOWN | Wanted.AVOIDED:
            return record.remedy in IN_FORCE[wanted]
        case Wanted.BARRED:
            return record.condition.state is NodeState.BARRED
        case Wanted.DEAD:
            return record.is_dead and not before.record.is_dead


def false_actions(
    wanted: Wanted, decisions: Sequence[Decision], *, victims: Collection[str], nodes: Collection[str]
) -> tuple[str, ...]:
    """Of the decisions since the fault, those that it did not ask for, in words; `victims` are the drill's own nodes,
    `nodes` all that are watched."""
    found = []
    for told in decisions:
        if told.subject not in nodes or told.decision.endswith(VIEWS) or told.decision.startswith("no "):
            continue
        is_asked = told.decision in ANSWERS.get(wanted, ()) or told.decision == "restart its probe"
        if not (told.subject in victims and is_asked):
            found.append(f"{told.subject[:8]}: {told.decision}: {told.reason}")
    return tuple(found)


def score(kind: str, found_s: float | None, false: Sequence[str], said: str) -> Score:
    """Passed is a drill that led to what was wanted in time, and to nothing else."""
    drill = DRILLS[kind]
    passed = found_s is not None and found_s <= drill.limit_s and not false
    return Score(kind, drill.fault, drill.wanted.value, drill.limit_s, found_s, tuple(false), said, passed=passed)


def not_held(kind: str, why_not: str) -> Score:
    drill = DRILLS[kind]
    return Score(kind, drill.fault, drill.wanted.value, drill.limit_s, None, why_not=why_not)
