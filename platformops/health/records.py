"""Plain records of what is heard of nodes, and of what is concluded from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a probe says once a period."""

    node: str
    incarnation: int
    """Rises each time the probe starts; a beat of an older one is ignored."""
    sequence: int
    """Rises by one a beat, from 0 in each incarnation."""
    sent_s: float
    """On the sender's own clock: never compared with the monitor's."""
    delay_s: float = 0.0
    """How much later than planned the probe woke up for this beat: its own scheduling delay."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One measured value of a node, a worker or a replica."""

    subject: str
    source: str
    """`step_s`, `disk_fsync_s`, `errors`: which series it belongs to."""
    value: float
    at_s: float
    peers: str = ""
    """Name of the group whose members ought to behave alike; empty when it stands alone."""


class LivenessState(Enum):
    ALIVE = "alive"
    SUSPECT = "suspect"
    HELD = "held"
    """Would be dead by its silence, but too many fell silent with it."""
    PROBE_SICK = "probe sick"
    """The probe is silent and another way to the node answers: restart the probe, move nothing."""
    DEAD = "dead"


class LivenessEvent(Enum):
    BEAT = "beat"
    FELL_SILENT = "fell silent"
    SILENT_TOGETHER = "silent together"
    CHANNEL_ANSWERED = "channel answered"
    CHANNEL_SILENT = "channel silent"
    CONDEMNED = "condemned"


LIVENESS = {
    (LivenessState.ALIVE, LivenessEvent.FELL_SILENT): LivenessState.SUSPECT,
    (LivenessState.SUSPECT, LivenessEvent.BEAT): LivenessState.ALIVE,
    (LivenessState.SUSPECT, LivenessEvent.SILENT_TOGETHER): LivenessState.HELD,
    (LivenessState.SUSPECT, LivenessEvent.CHANNEL_ANSWERED): LivenessState.PROBE_SICK,
    (LivenessState.SUSPECT, LivenessEvent.CONDEMNED): LivenessState.DEAD,
    (LivenessState.HELD, LivenessEvent.BEAT): LivenessState.ALIVE,
    (LivenessState.HELD, LivenessEvent.CHANNEL_ANSWERED): LivenessState.PROBE_SICK,
    (LivenessState.HELD, LivenessEvent.CONDEMNED): LivenessState.DEAD,
    (LivenessState.PROBE_SICK, LivenessEvent.BEAT): LivenessState.ALIVE,
    (LivenessState.PROBE_SICK, LivenessEvent.CHANNEL_SILENT): LivenessState.SUSPECT,
    (LivenessState.DEAD, LivenessEvent.BEAT): LivenessState.ALIVE,
}


class ChannelAnswer(Enum):
    """What came of asking for a node by another way than its heartbeat."""

    ANSWERED = "answered"
    SILENT = "silent"
    """Nothing within the timeout: likelier of a dead node, yet also seen in a partition."""
    REFUSED = "refused"
    """Somebody who must know says that it is gone: a refused connection, a node table."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why a node is believed dead, or not yet: the terms of the log odds in natural logarithms."""

    node: str
    silence_periods: float
    """On the slower of the monitor's and the fleet's clock."""
    fleet_periods: float
    """On the fleet's clock alone, which stands still where everybody is silent."""
    silence_s: float
    """On the wall."""
    prior: float
    """log(hazard x period): of dying between two beats."""
    phi: float
    """-log10 P(silence this long | alive)."""
    channel: float
    """log likelihood ratio of what the second channel said."""
    witness: float = 0.0
    """The same of what the node's own kernel said of its server."""

    @property
    def log_odds(self) -> float:
        return self.prior + self.phi * 2.302585092994046 + self.channel + self.witness


@dataclass(frozen=True, slots=True)
class LivenessVerdict:
    """A node changed its liveness state."""

    node: str
    state: LivenessState
    before: LivenessState
    at_s: float
    reason: str
    suspicion: Suspicion | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """One detector's opinion of one value: how rare it is when all is well."""

    subject: str
    detector: str
    value: float
    expected: float
    surprise: float
    """-log10 of the tail probability, so that 3 is once in a thousand."""
    at_s: float
    reason: str
