"""Plain records of the registry room: model versions and aliases."""

from __future__ import annotations

from dataclasses import dataclass, field

from platformops.store.records import JsonObject

UNKNOWN = "unknown"
_SAID = {
    "modified": "with uncommitted changes",
    "mixed": "of mixed revisions",
    "switched": "with switched parts",
    "sparse": "with parts left out",
}
UNCLEAN = tuple(_SAID)
"""States of a tree whose revision alone does not give its content."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which state of the code a run started from, under whose hands; what is not known is empty."""

    vcs: str = ""
    """`git` or `svn`."""
    revision: str = UNKNOWN
    """Commit, or the last-changed revision of the Subversion path."""
    branch: str = ""
    """Name of the Git branch, or the Subversion path in its repository (`^/trunk`)."""
    remote: str = ""
    """URL without credentials."""
    repository: str = ""
    """UUID of a Subversion repository."""
    states: tuple[str, ...] = ()
    """`modified`, `mixed`, `switched`, `sparse`; and, of no weight, `detached`, `shallow`, `worktree`."""
    ci: str = ""
    """`gitlab`, `jenkins`, `travis`, `github`."""
    build_url: str = ""
    who: str = ""
    lock_file: str = ""
    lock_digest: str = ""
    """SHA-256 of the file that pins the dependencies."""

    @property
    def said(self) -> str:
        """`c0ffee on main with uncommitted changes`, `r12 of ^/trunk of mixed revisions`."""
        if self.vcs == "svn":
            where = f"r{self.revision} of {self.branch}"
        else:
            where = f"{self.revision} on {self.branch}" if self.branch else self.revision
        return " ".join([where, " and ".join(_SAID[state] for state in self.unclean)]).rstrip()

    @property
    def unclean(self) -> tuple[str, ...]:
        """The states for which nobody can get this tree again by its revision."""
        return tuple(state for state in self.states if state in UNCLEAN)


@dataclass(frozen=True, slots=True)
class Lineage:
    """From a version back to bytes and code."""

    sources: JsonObject
    """Data source as written -> digest of its bytes."""
    steps: JsonObject
    """Stage name -> fingerprint."""
    run_id: str
    code_revision: str
    """The revision of `provenance`, or `unknown`."""
    code_dirty: bool
    """True when the tree was not as that revision has it."""
    provenance: Provenance = Provenance()
    """Nothing for versions that were registered before it was kept."""


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
