"""What the keeper sees of the cluster that it keeps, what it remembers, and what it may do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Left:
    """An errand whose process is gone without having said how it ended."""

    id: str
    verb: str
    resumed: int
    """How often it was taken up already."""
    resumed_at: float
    """When it was taken up last; 0.0 for never."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """The cluster of this home, as it is at one moment."""

    is_wanted: bool
    """False once `down` has said so; what dies afterwards stays dead."""
    has_gcs: bool
    has_raylet: bool
    can_start_gcs: bool
    """Its command is known and its state is on disk, so that a new process continues where the old one was."""
    stopped: Mapping[int, str] = field(default_factory=dict)
    """Process id -> name of every process of the cluster that a signal holds still."""
    left: tuple[Left, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What the keeper carries from one look to the next; seconds of a clock that never jumps."""

    restarts: tuple[float, ...] = ()
    """When servers were restarted, oldest first, within the window that counts."""
    gcs_restarts: tuple[float, ...] = ()
    """Of those, the ones of the GCS alone."""
    stopped_since: Mapping[int, float] = field(default_factory=dict)
    has_given_up: bool = False


@dataclass(frozen=True, slots=True)
class StartGcs:
    """Run the GCS again by the command by which it ran before; every other process goes on meanwhile."""

    reason: str


@dataclass(frozen=True, slots=True)
class RestartHead:
    """End what is left of the cluster and start it on the same ports and the same state."""

    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End one process for good, so that Ray sees a crash, which it repairs, and not a silence, which it waits out."""

    pid: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Run an errand again; its finished steps are cache hits."""

    errand: str
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave the cluster as it is, for people to look at."""

    reason: str


Act = StartGcs | RestartHead | Kill | Resume | GiveUp


@dataclass(frozen=True, slots=True)
class Decided:
    acts: tuple[Act, ...]
    memory: Memory
    is_over: bool = False
    """Nothing is left to keep."""
