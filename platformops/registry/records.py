"""Plain records of the registry room: model versions and aliases."""

from __future__ import annotations

from dataclasses import dataclass, field

from platformops.store.records import JsonObject


@dataclass(frozen=True, slots=True)
class Lineage:
    """From a version back to bytes and code."""

    sources: JsonObject
    """Data source as written -> digest of its bytes."""
    steps: JsonObject
    """Stage name -> fingerprint."""
    run_id: str
    code_revision: str
    """Git commit of the directory that the run started in, or `unknown`."""
    code_dirty: bool
    """True when that tree had uncommitted changes."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One immutable, evaluated model: numbers rise by one within a model name."""

    model: str
    number: int
    fingerprint: str
    """Of the evaluation step: it covers data, code, parameters and weights."""
    artifacts: JsonObject
    """Stage name (`prepare`, `train`, `evaluate`) -> {"fingerprint", "manifest_digest"}."""
    metrics: JsonObject
    params: JsonObject
    lineage: Lineage
    created_at: float

    @property
    def name(self) -> str:
        return f"{self.model}:v{self.number}"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What releases found out about a version: kept apart, since a version itself never changes."""

    refused_by: tuple[str, ...] = ()
    reason: str = ""
    details: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alias:
    """Where a movable pointer was when it was read."""

    model: str
    name: str
    number: int
    token: int
    """Hand it to `set_alias` as `expect`: it fails when somebody moved the alias since."""
