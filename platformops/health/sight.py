"""What the fleet is judged by, and what follows for it: records that deciding reads and returns, and actions as data.

Every action states an end, so that one that was lost with the process that was to do it can be asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from platformops.delivery.records import Decision
from platformops.health.guard import Guard
from platformops.health.nodes import Learnt, Member, NodeRecord, Policy, Wished
from platformops.health.records import LivenessVerdict
from platformops.health.remedy import Choice, Remedy
from platformops.health.risk import Risk
from platformops.health.watch import View

CLASS = "node"
"""Of what fails, among all that is predicted."""
HEARD_WITHIN_S = 10.0
SILENT_PROBE_S = 15.0
"""After which a probe that was placed and never heard is placed again."""
AWAY = frozenset({Remedy.CORDON, Remedy.MOVE, Remedy.DRAIN})
"""Remedies that take the node from work."""


@dataclass(frozen=True, slots=True)
class PlaceProbe:
    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Retire:
    """The cluster knows that the node is dead; what still runs there is ended."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """The node takes nothing new, its work moves, and then its server ends. Nothing takes this back."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Avoid:
    """No new work goes to these nodes; to the suspects only where there is no better place; to all others it does."""

    nodes: tuple[str, ...]
    suspects: tuple[str, ...] = ()
    rates_per_s: Mapping[str, float] = field(default_factory=dict)
    """Failures to expect of a node: `""` for the usual one, and each that is well above it by its id."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What trains on the node has a checkpoint that is newer than `at`."""

    node: str
    at: float


Action = PlaceProbe | Retire | Drain | Avoid | Checkpoint


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that is decided on."""

    members: Mapping[str, Member]
    records: Mapping[str, NodeRecord]
    views: Mapping[str, View]
    wishes: Mapping[str, Wished]
    verdicts: tuple[LivenessVerdict, ...]
    guard: Guard
    learnt: Learnt
    epoch: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Decided:
    records: Mapping[str, NodeRecord]
    """Of every living node, and of those that died and are not forgotten."""
    guard: Guard
    learnt: Learnt
    decisions: tuple[Decision, ...] = ()
    actions: tuple[Action, ...] = ()
    risks: dict[str, Risk] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)


def is_heard(view: View | None) -> bool:
    """Whether its probe has been heard of late."""
    return view is not None and view.heard_s_ago is not None and view.heard_s_ago < HEARD_WITHIN_S


def is_wanted(member: Member) -> bool:
    """Whether its death is nobody's failure: it was stopped, or drained and has just ended."""
    return member.has_ended_well or member.is_draining
