"""Plain records of the pipeline room: stages, steps, plans, runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from platformops.pipeline.shortage import Shortage
from platformops.store.records import JsonObject


@dataclass(frozen=True, slots=True)
class Stage:
    """A function to call and what it takes; `uses` is `module:function` and is imported only to run."""

    name: str
    uses: str
    needs: tuple[str, ...] = ()
    params: JsonObject = field(default_factory=dict)
    code: tuple[str, ...] = ()
    """Further sources in the identity, beside the module in `uses`: module names, or files below the spec's folder."""
    sources: tuple[str, ...] = ()
    """Data sources (URIs) whose bytes are part of the identity."""
    retries: int = 0
    timeout_s: float | None = None
    on_cluster: bool = False
    """Uses the whole cluster: two such steps never run at once."""


USES = "uses:"
"""The entry of `StepKey.code` that names the function; no module can be called so."""


@dataclass(frozen=True, slots=True)
class StepKey:
    """All that identifies a step; its fingerprint is the digest of this record and of nothing else."""

    stage: str
    code: Mapping[str, str]
    """Module name -> digest of its source; and USES -> `module:function`."""
    params: JsonObject
    parents: Mapping[str, str]
    """Stage name -> fingerprint."""
    sources: Mapping[str, str]
    """Source as written -> digest of its bytes."""


@dataclass(frozen=True, slots=True)
class Step:
    stage: Stage
    key: StepKey
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Plan:
    system: str
    steps: tuple[Step, ...]
    """In an order in which every step comes after its parents."""


class StepState(Enum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepEvent(Enum):
    CLAIMED = "claimed"
    RENEWED = "renewed"
    STOLEN = "stolen"
    """Claimed from an owner that is dead or whose lease has run out."""
    RETRIED = "retried"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INVALIDATED = "invalidated"
    """The artifact of a finished step is damaged or gone."""


class RunState(Enum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunEvent(Enum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    """Its process ended without a word; a later run says so for it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds leases; a process id alone is used again, hence its start time and its machine."""

    host: str
    """For people."""
    machine: str
    """Boot and process namespace: only there does `pid` mean anything."""
    pid: int
    started: int
    """Start of the process in kernel ticks since boot."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not end well, as it crosses from the worker and into the journal."""

    kind: str
    """Class of the exception, or `Crashed`, `TimedOut`, `Stopped`."""
    message: str
    remedy: str | None = None
    final: bool = False
    """Trying again cannot help: the spec, the data or the disk has to change first."""
    trace: str = ""
    """For the log; never shown as the reason."""
    shortage: Shortage | None = None
    """For a full disk: what has to change there before another attempt is worth it."""

    @property
    def reason(self) -> str:
        return f"{self.message}\n  fix: {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a run says of one step; `seconds` is the time of the attempt that made the artifact."""

    name: str
    state: StepState
    cached: bool
    seconds: float
    fingerprint: str
    summary: JsonObject = field(default_factory=dict)
    """What the stage function returned."""
    reason: str = ""
    """Why it failed, waited or was not cached."""
    manifest_digest: str | None = None
    """With the fingerprint, opens the artifact; None unless the state is DONE."""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class StepPreview:
    """What `plan` says of one step before anything runs."""

    name: str
    fingerprint: str
    cached: bool
    reasons: tuple[str, ...] = ()
    """Why it is not cached, each a sentence: `params.train.epochs was 12, is 3`."""
    seconds: float | None = None
    """How long it took last time, under this or the last fingerprint of the stage."""


@dataclass(frozen=True, slots=True)
class RunResult:
    run_id: str
    system: str
    state: RunState
    steps: tuple[StepResult, ...]
    reason: str = ""


MOST_FIGURES = 64
"""Of one stage at a time: a figure for each rank of a large training, and not one for each row."""


class Tell(Protocol):
    """By which a stage says how far it is, to the person who waits and to whoever watches its figures."""

    def __call__(self, ratio: float | None, message: str, **figures: float) -> None:
        """Share done from 0 to 1 (None when unknown), a short message, and figures of now, such as `loss=0.31`: they
        are kept with the run, and exported as metrics. A name that ends in `.rank3` is of the fourth rank's."""
        ...


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage function gets: `def stage(context: StageContext, **params) -> JSON object or None`."""

    inputs: Mapping[str, Path]
    """Stage name -> local directory of its verified artifact; read-only."""
    output: Path
    """An empty directory; what is in it on return becomes the artifact."""
    scratch: Path
    """Survives kills and attempts of this same step; gone once the step is done."""
    progress: Tell
    fingerprint: str = ""
    root: Path = Path(".")
    """The directory of the spec file: relative paths of the spec start here."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of news from a running plan."""

    stage: str
    state: str
    """`waiting`, `running`, `cached`, `done`, `failed`, `cancelled`."""
    ratio: float | None = None
    message: str = ""
    elapsed_s: float = 0.0
