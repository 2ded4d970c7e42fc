"""Plain records of the delivery room: revisions, gates, rollouts, decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from platformops.store.records import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Revision:
    """One model version together with how it is served: what one Serve application runs."""

    system: str
    number: int
    """Of the revision: rises by one at each release of the system."""
    version: int
    """Of the model."""
    artifact: str
    """Fingerprint of the step whose artifact holds the weights."""
    manifest_digest: str
    replicas_min: int
    replicas_max: int
    options: JsonObject = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Also the name of the Serve application."""
        return f"{self.system}-r{self.number}"


@dataclass(frozen=True, slots=True)
class GateResult:
    name: str
    passed: bool
    reason: str
    """With the figure, the limit and by how much: `accuracy 0.91 is 0.04 below the limit 0.95`."""
    evidence: JsonObject = field(default_factory=dict)


class RolloutState(Enum):
    PENDING = "pending"
    DEPLOYING = "deploying"
    VERIFYING = "verifying"
    SHIFTING = "shifting"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


class RolloutEvent(Enum):
    STARTED = "started"
    DEPLOYED = "deployed"
    GATE_PASSED = "gate_passed"
    GATE_FAILED = "gate_failed"
    STEP_PASSED = "step_passed"
    COMPLETED = "completed"
    HARMED = "harmed"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Rollout:
    """One move of traffic from the stable revision (None at the first release) to a candidate."""

    system: str
    number: int
    candidate: Revision
    stable: Revision | None
    state: RolloutState
    step: int
    """Index in `release.steps`."""
    gates: tuple[GateResult, ...]
    reason: str
    started_at: float
    changed_at: float


@dataclass(frozen=True, slots=True)
class Route:
    """Where the router sends a system's requests: weights in percent over revision names, summing to 100."""

    system: str
    weights: Mapping[str, float]
    token: int
    """Fencing token: a router refuses a route older than the one it has."""


@dataclass(frozen=True, slots=True)
class System:
    """Desired state of one served system, kept under `system/<name>`; written by the controller and `up` / `down`."""

    name: str
    stable: Revision | None
    route: Route | None
    serve: JsonObject
    """The spec's `serve` section: limits that the gateway keeps."""
    classes: tuple[str, ...]
    wanted: str
    """`up` or `down`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided and why, as `platformops why` prints it."""

    subject: str
    decision: str
    reason: str
    evidence: Sequence[Json]
    would_change: str
    """What would have led to another decision."""
    decided_at: float
