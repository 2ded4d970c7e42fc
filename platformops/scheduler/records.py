"""Plain records of the scheduler: what wants to run, what there is to run on, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

Resources = Mapping[str, float]
"""Resource -> amount (`CPU`, `GPU`, ...)."""


class Priority(IntEnum):
    BATCH = 0
    TRAINING = 1
    SERVING = 2
    REPAIR = 3
    """What brings back something that people are using."""


@dataclass(frozen=True, slots=True)
class Job:
    """A gang: all of its tasks are placed at once, or none."""

    name: str
    team: str
    submitted_at: float
    num_tasks: int = 1
    needs: Resources = field(default_factory=dict)
    """Of each task."""
    priority: Priority = Priority.BATCH
    avoid: frozenset[str] = frozenset()
    """Nodes that it must not be put on (where its last attempt failed)."""
    spread: bool = False
    """At most one task a node: replicas that must not die together."""
    runs_s: float = 3600.0
    """Expected; a placement is exposed to its nodes' hazards for so long."""

    @property
    def uses(self) -> Resources:
        """Of all tasks together."""
        return {resource: self.num_tasks * amount for resource, amount in self.needs.items()}


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as the scheduler sees it."""

    id: str
    free: Resources
    takes_work: bool = True
    is_suspect: bool = False
    hazard_per_s: float = 0.0
    why_not: str = ""
    """Why it takes no work: cordoned, draining, on probation."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a team already uses."""

    team: str
    uses: Resources


@dataclass(frozen=True, slots=True)
class Team:
    name: str
    share: float = 1.0
    """Weight in fair sharing."""
    quota: Resources = field(default_factory=dict)
    """Most it may use; a resource that is not named is not limited."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The nodes of a job's tasks, one entry a task."""

    job: str
    nodes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """A job that waits."""

    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    placements: tuple[Placement, ...] = ()
    held: tuple[Held, ...] = ()
    """In the order in which they will be tried again."""
