"""What is kept of a node in the store, so that a controller that was killed loses no verdict and repeats no action."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import NamedTuple

from platformops.health.calibration import Bin, Record
from platformops.health.fold import Condition
from platformops.health.guard import BUDGET_RATIO, Guard
from platformops.health.hazard import NodeHistory
from platformops.health.remedy import Remedy
from platformops.health.states import NodeState
from platformops.store.records import Json, JsonObject

NODES, WISHES = "node/", "wish/"
GUARD, LEARNT = "health/guard", "health/learnt"
POLICIES = "health/policy/"


class Step(NamedTuple):
    """A rank's own part of a step, without waiting for the others."""

    number: int
    """Of this measurement; another one has another number."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Gang:
    """A training that has a worker on the node: when that stops, all of it does."""

    slots: int
    """Of the whole gang."""
    unsaved_s: float
    checkpoint_s: float
    name: str = ""
    ranks: int = 0
    """Of the gang, on this node."""
    step: Step | None = None
    """Of this node's slowest rank; None while unknown."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node as the cluster's own table has it."""

    id: str
    address: str
    is_alive: bool
    is_head: bool = False
    is_home: bool = False
    """The controller runs there."""
    is_draining: bool = False
    held_by: tuple[str, ...] = ()
    """What still runs on a node that is draining, and so keeps it from ending."""
    has_ended_well: bool = False
    """Dead, and by nobody's fault: stopped by a person, or drained."""
    cpus: float = 0.0
    free_cpus: float = 0.0
    gang: Gang | None = None
    drill: str = ""
    """Of which drill it is the node, started to be broken: it takes no work, no budget, and teaches nothing."""

    @property
    def used_cpus(self) -> float:
        """Reserved."""
        return self.cpus - self.free_cpus

    @property
    def is_vital(self) -> bool:
        """Taking it out would take the cluster or its controller with it: that is the keeper's to repair."""
        return self.is_head or self.is_home


def waits_for(member: Member) -> str:
    """Why a node that is draining has not ended yet; empty for any other."""
    if not member.is_draining or not member.is_alive:
        return ""
    held = [f"{member.used_cpus:g} of its CPUs are in use"] if member.used_cpus > 0.0 else []
    if member.held_by:
        counts = sorted(Counter(member.held_by).items())
        held.append(", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts))
    return f"waits for what runs there: {'; '.join(held)}" if held else "nothing runs there: about to end"


class Wish(Enum):
    """What a person wants of a node."""

    NONE = "none"
    CORDONED = "cordoned"
    DRAINED = "drained"
    PARDONED = "pardoned"
    """Back to work, whatever it did; once."""


def steps_of(members: Iterable[Member]) -> Mapping[str, Mapping[str, Step]]:
    """Training, among nodes that can be compared -> node -> own part of a step there, where that is known.

    Nodes with as many CPUs and as many of its ranks: one that carries more is no slower machine for that.
    """
    found: dict[str, dict[str, Step]] = {}
    for member in members:
        gang = member.gang
        if gang is not None and gang.step is not None:
            alike = f"{gang.name} ({gang.ranks} rank{'s' * (gang.ranks != 1)} on {member.cpus:g} CPUs)"
            found.setdefault(alike, {})[member.id] = gang.step
    return found


@dataclass(frozen=True, slots=True)
class Wished:
    wish: Wish = Wish.NONE
    who: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the `health` section of a system's spec lets the platform do to the nodes that it runs on."""

    may_drain: bool = True
    budget_ratio: float = BUDGET_RATIO
    """Of the nodes, that may lose their place within half an hour."""


def strictest(policies: Iterable[Policy]) -> Policy:
    """Systems share nodes: what one of them forbids is done to none. Without any, as if a spec said nothing."""
    found = list(policies) or [Policy()]
    return Policy(all(p.may_drain for p in found), min(p.budget_ratio for p in found))


@dataclass(frozen=True, slots=True)
class Killed:
    """A process that was ended for being held still."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """Of one node; only the controller writes it."""

    id: str
    address: str
    condition: Condition
    history: NodeHistory
    incarnation: int = 0
    """Of the probe that is wanted; 0 before the first."""
    placed_at: float = 0.0
    remedy: Remedy = Remedy.WAIT
    """In force."""
    remedy_at: float = 0.0
    reason: str = ""
    """Of the last change, for people."""
    is_refused: bool = False
    """By the guard; the remedy is asked for again when that changes."""
    is_dead: bool = False
    """The verdict; a barred node has it beside its state."""
    is_forgiven: bool = False
    """It was stopped on purpose: what comes back at its address starts afresh."""
    killed: tuple[Killed, ...] = ()
    checkpoint_at: float = 0.0
    """When its work was last asked for a checkpoint; 0.0 for never."""
    predicted: float | None = None
    """The probability that was said at `predicted_at`; it is compared with what becomes of the node."""
    predicted_at: float = 0.0
    drill: str = ""
    saves: float = 0.0
    """Slot-seconds that the remedy in force is expected to save if the node fails."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What became of predictions and remedies on this platform."""

    record: Record
    deaths: int = 0
    foreseen: int = 0
    """Deaths of nodes that were unhealthy, or had a remedy in force, before."""
    lead_s: tuple[float, ...] = ()
    """Of the foreseen ones, the last hundred: from the verdict to the death."""
    remedies: int = 0
    """Ended, that is the node died or came back."""
    right_remedies: int = 0
    """The node died."""
    saved_slot_s: float = 0.0


def node_json(record: NodeRecord) -> JsonObject:
    value = asdict(record)
    value["condition"]["state"] = record.condition.state.value
    value["remedy"] = record.remedy.value
    return value


def node_from(value: JsonObject) -> NodeRecord:
    condition, history, killed = value["condition"], value["history"], value["killed"]
    assert isinstance(condition, Mapping), "written by node_json"
    assert isinstance(history, Mapping), "written by node_json"
    assert isinstance(killed, list), "written by node_json"
    returns = condition["returns"]
    assert isinstance(returns, list), "written by node_json"
    return NodeRecord(
        **{
            **value,
            "condition": Condition(
                **{**condition, "state": NodeState(condition["state"]), "returns": tuple(map(_number, returns))}  # type: ignore[arg-type]
            ),
            "history": NodeHistory(**history),  # type: ignore[arg-type]
            "remedy": Remedy(value["remedy"]),
            "killed": tuple(Killed(**one) for one in killed),
        }
    )


def wish_json(wished: Wished) -> JsonObject:
    return {"wish": wished.wish.value, "who": wished.who, "at": wished.at}


def wish_from(value: JsonObject) -> Wished:
    return Wished(Wish(value["wish"]), str(value["who"]), _number(value["at"]))


def policy_json(policy: Policy) -> JsonObject:
    return asdict(policy)


def policy_from(value: JsonObject) -> Policy:
    return Policy(value["may_drain"] is True, _number(value["budget_ratio"]))


def guard_json(guard: Guard) -> JsonObject:
    return {**asdict(guard), "taken": [[at, node] for at, node in guard.taken]}


def guard_from(value: JsonObject) -> Guard:
    taken = value["taken"]
    assert isinstance(taken, list), "written by guard_json"
    pairs = tuple((float(at), str(node)) for at, node in taken)
    return Guard(**{**value, "taken": pairs})  # type: ignore[arg-type]


def learnt_json(learnt: Learnt) -> JsonObject:
    return asdict(learnt)


def learnt_from(value: JsonObject) -> Learnt:
    record = value["record"]
    assert isinstance(record, Mapping), "written by learnt_json"
    classes, bins, lead_s = record["classes"], record["bins"], value["lead_s"]
    assert isinstance(classes, Mapping), "written by learnt_json"
    assert isinstance(bins, list), "written by learnt_json"
    assert isinstance(lead_s, list), "written by learnt_json"
    kept = Record(
        _number(record["at"]),
        {name: Bin(**one) for name, one in classes.items()},  # type: ignore[arg-type]
        tuple(Bin(**one) for one in bins),
    )
    return Learnt(**{**value, "record": kept, "lead_s": tuple(map(_number, lead_s))})  # type: ignore[arg-type]


def _number(value: Json) -> float:
    assert isinstance(value, int | float), "written by this file"
    return float(value)
