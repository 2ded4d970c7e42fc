"""Plain records of the delivery room: revisions, evidence, gates, rollouts, actions, decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from platformops.delivery.ledger import Ledger
from platformops.delivery.terms import Terms
from platformops.registry.records import Verdicts
from platformops.store.records import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Planted:
    """A defect that a drill plants in a copy of the live model. Nothing but a drill makes one: no spec can name it."""

    defect: str
    size: float
    """How much of it: a share, seconds or bytes, as the defect has it."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One model version together with how it is served: what one Serve application runs."""

    system: str
    number: int
    """Of the revision: that of the rollout which brought it, so it rises at each release of the system."""
    version: int
    """Of the model."""
    artifact: str
    """Fingerprint of the step whose artifact holds the weights."""
    manifest_digest: str
    replicas_min: int
    replicas_max: int
    options: JsonObject = field(default_factory=dict)
    """The spec's `serve` section."""
    model: str = ""
    evaluation: str = ""
    """Fingerprint of the evaluation step: predictions, metrics and the rows that parity replays."""
    evaluation_digest: str = ""
    classes: tuple[str, ...] = ()
    planted: Planted | None = None

    @property
    def name(self) -> str:
        """Also the name of the Serve application."""
        return f"{self.system}-r{self.number}"

    @property
    def version_name(self) -> str:
        return f"{self.model or self.system}:v{self.version}"

    def serves_the_same(self, other: Revision | None) -> bool:
        """Whether releasing one where the other is stable would change nothing."""
        return other is not None and replace(self, number=0) == replace(other, number=0)


class RevisionState(Enum):
    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """What is seen of a deployed revision."""

    state: RevisionState
    ready: int = 0
    """Replicas that take requests."""
    wanted: int = 0
    """Replicas that there should be now."""
    reason: str = ""
    deployed_at: float = 0.0
    """When it was last deployed, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure, or its difference from the champion's, with the one-sided bound that a gate asked for."""

    figure: float
    champion: float | None
    bound: float
    """Of `figure`; of `figure - champion` when there is a champion."""
    rows: int
    paired: bool
    """True when both models answered the same rows."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the evaluation artifacts say of the candidate and the champion."""

    metrics: Mapping[str, float]
    champion: str = ""
    """`digits:v3`; empty at the first release."""
    champion_metrics: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    """By the name of the gate that wants it."""
    problem: str = ""
    """Why nothing could be read; everything else is then empty."""
    classes: tuple[str, ...] = ()
    champion_classes: tuple[str, ...] = ()
    disagreement: float | None = None
    """Upper bound of the share of test rows with another label than the champion's; None without common rows."""


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Answers of the live endpoint against the offline evaluation, row by row."""

    rows: int
    largest: float
    """Largest absolute difference of a probability."""
    worst: str
    """Id of the row that has it."""
    other_labels: tuple[str, ...] = ()
    """`row 17: cat offline, dog live`, where it is no tie."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What the candidate did beside stable before it had traffic."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """Kinds of its answers' fields by path; empty when it gave no answer."""
    stable_fields: Mapping[str, str] = field(default_factory=dict)
    transformed: int = 0
    """Rows whose input to the model was compared with that of training; 0 where the evaluation kept none."""
    differing: tuple[str, ...] = ()
    """Ids of those of them that are made other numbers."""
    asked: int = 0
    """Of the candidate, several at a time."""
    answered: int = 0
    p99_ms: float = 0.0
    pairs: int = 0
    """Requests of candidate and stable beside each other."""
    slower: int = 0
    """Of pairs: the candidate took longer by more than the margin."""
    problem: str = ""
    memory_bytes: tuple[int, int] = (0, 0)
    """Resident in one replica half-way and at the end of the load; 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What the candidate's real endpoint did with held-out rows."""

    asked: int
    answered: int
    latencies_ms: tuple[float, ...]
    """Of answered requests sent one after the other, rising."""
    parity: ParityReport | None
    problem: str = ""
    """Of the first request that was not answered."""
    rehearsal: Rehearsal | None = None


class ExaminationKind(Enum):
    OFFLINE = "offline"
    ENDPOINT = "endpoint"


Examined = Evaluation | Replay


@dataclass(frozen=True, slots=True)
class GateResult:
    name: str
    passed: bool
    reason: str
    """With the figure, the limit and by how much: `accuracy 0.91 is 0.04 below the limit 0.95`."""
    evidence: JsonObject = field(default_factory=dict)
    would_change: str = ""
    """What would have led to the other result."""


class RolloutState(Enum):
    PENDING = "pending"
    DEPLOYING = "deploying"
    VERIFYING = "verifying"
    AWAITING = "awaiting"
    SHIFTING = "shifting"
    PAUSED = "paused"
    HALTED = "halted"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


class RolloutEvent(Enum):
    GATE_PASSED = "gate_passed"
    GATE_FAILED = "gate_failed"
    DEPLOYED = "deployed"
    APPROVAL_NEEDED = "approval_needed"
    APPROVED = "approved"
    STEP_PASSED = "step_passed"
    COMPLETED = "completed"
    HARMED = "harmed"
    HALT = "halt"
    UNPROVEN = "unproven"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


class RolloutKind(Enum):
    RELEASE = "release"
    ROLLBACK = "rollback"
    """Back to a revision that was stable before: it is not judged again."""
    DRILL = "drill"
    """Of a copy of stable with a planted defect: judged like a release, and never promoted."""


@dataclass(frozen=True, slots=True)
class Approval:
    """That a person let a rollout go on."""

    who: str
    at: float
    of: str
    """`traffic`: that it may have any; `evidence`: that its steps need no proof of harmlessness. Alarms still count."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One move of traffic from the stable revision (None at the first release) to a candidate."""

    system: str
    number: int
    candidate: Revision
    stable: Revision | None
    state: RolloutState
    step: int
    """Index in `steps`."""
    steps: tuple[str, ...]
    """The spec's `release.steps`."""
    conditions: Mapping[str, str]
    """The spec's `gates`."""
    gates: tuple[GateResult, ...]
    reason: str
    started_at: float
    changed_at: float
    kind: RolloutKind = RolloutKind.RELEASE
    terms: Terms = field(default_factory=Terms)
    expected_disagreement: float | None = None
    """Share of other labels than stable's that the test rows let expect."""
    routed_at: float | None = None
    """When the router was first seen to follow the present step; a step bakes from then on."""
    approvals: tuple[Approval, ...] = ()
    node: str = ""
    """That may have caused the harm instead of the model."""

    @property
    def name(self) -> str:
        """Also its subject in `platformops why`."""
        return f"{self.system}:rollout-{self.number}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a rollout is judged on at one instant."""

    candidate: RevisionStatus
    evaluation: Evaluation | None = None
    replay: Replay | None = None
    ledger: Ledger | None = None
    """What was seen of its traffic; None before it had any."""
    routed: bool = False
    """Whether the router follows the route that the store holds."""
    abort: str = ""
    """Why a person wants it to end; empty when nobody does."""
    watched_since: float = 0.0
    """Since when a controller has been looking: what nobody watched does not count against a deadline."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the router sends a system's requests: weights in percent over revision names, summing to 100."""

    system: str
    weights: Mapping[str, float]
    token: int
    """Fencing token: a router refuses a route older than the one it has. It is the version of the system's record that
    brought the route, so it only rises."""
    shadow: str = ""
    """Revision that gets copies of requests whose answers are dropped; empty for none."""


@dataclass(frozen=True, slots=True)
class System:
    """Desired state of one served system, kept under `system/<name>`; written by the controller and `up` / `down`."""

    name: str
    stable: Revision | None
    route: Route | None
    serve: JsonObject
    """The `serve` section of stable (of the first candidate before there is one): limits that the gateway keeps."""
    classes: tuple[str, ...]
    wanted: str
    """`up` or `down`."""


@dataclass(frozen=True, slots=True)
class DeployRevision:
    """The revision runs."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class RemoveRevision:
    """Nothing runs under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class SetRoute:
    """The router follows this route, unless it has a newer one."""

    route: Route


@dataclass(frozen=True, slots=True)
class SetAlias:
    """The alias points at this version, unless somebody moved it since it was read with token `expect`."""

    model: str
    alias: str
    number: int
    expect: int


@dataclass(frozen=True, slots=True)
class MarkVersion:
    """The version bears what its last release found out."""

    model: str
    number: int
    verdicts: Verdicts


@dataclass(frozen=True, slots=True)
class Examine:
    """Evidence of this kind is being gathered for the rollout."""

    kind: ExaminationKind
    rollout: Rollout

    @property
    def key(self) -> str:
        return f"{self.rollout.name}/{self.kind.value}"


Action = DeployRevision | RemoveRevision | SetRoute | SetAlias | MarkVersion | Examine


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
