"""Drills: the twelve defects that a release must catch, planted in a copy of the live model, and their scorecard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from platformops.delivery.decisions import decision_puts, decisions_on
from platformops.delivery.documents import rollout_json
from platformops.delivery.gate import PARITY
from platformops.delivery.ledger import Ledger
from platformops.delivery.records import Planted, Revision, Rollout, RolloutKind, RolloutState
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import UP, conditions_of, load_rollout, load_system, newest_rollout, rollout_key
from platformops.delivery.terms import Terms, terms_of
from platformops.errors import GateRefused, UserError
from platformops.spec.types import PlatformSpec, ReleaseSpec
from platformops.store.records import ABSENT, JsonObject, Put, Store

MIN_BAKE_S = 2.0
PATIENCE_S = 240.0
"""Of a step: whoever runs a drill sends requests all the time, and one that was killed leaves nothing for longer."""
LATENCY = "latency"
ANY_PARITY = "1"
"""A tolerance that every probability is within."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One way to be bad."""

    name: str
    does: str
    size: float = 1.0
    """How much of it, in the unit that `does` names."""
    is_other_model: bool = False
    """Whether it stands for a model that is worse by its own evaluation, too. A copy bears the live model's, so parity
    with that says nothing of it, and is not asked for."""


DEFECTS: Mapping[str, Defect] = {
    defect.name: defect
    for defect in (
        Defect("crash-at-start", "its process ends as it starts"),
        Defect("load-error", "its weights cannot be loaded"),
        Defect("missing-dependency", "it imports what is not installed"),
        Defect("hang", "it takes requests and never answers"),
        Defect(LATENCY, "its answers take longer by this share of what they take", 0.2),
        Defect("errors", "this share of its answers are errors", 0.01),
        Defect("nan-outputs", "its outputs are no numbers"),
        Defect("permuted-labels", "its labels have changed places"),
        Defect("wrong-normalisation", "its inputs are scaled otherwise than in training"),
        Defect("accuracy", "this share of its answers name the second best class", 0.03, is_other_model=True),
        Defect("memory-growth", "it keeps so many bytes of every request", 131_072.0),
        Defect("response-schema", "a field of its answers has another name"),
    )
}


@dataclass(frozen=True, slots=True)
class Case:
    """What became of one defect."""

    name: str
    caught_by: str
    """The gate or guard that stopped it; empty when nothing did."""
    requests_to_verdict: int
    """That the copy was asked: of its verification, of users, and copies."""
    exposure_ratio: float
    """Of users' requests, those that were tried on the copy."""
    requests_lost: int
    """Of the drill's own requests, those without an answer."""
    to_stable_s: float
    """From the verdict to the last answer that the copy gave."""
    reason: str

    @property
    def passed(self) -> bool:
        return bool(self.caught_by) and not self.requests_lost


@dataclass(frozen=True, slots=True)
class Manner:
    """How a system releases: what a drill is judged by."""

    conditions: Mapping[str, str]
    steps: tuple[str, ...]
    terms: Terms


def manner_of(spec: PlatformSpec) -> Manner:
    """As `spec` wants its releases; in default steps where it gives all traffic at once, as that guards nobody."""
    steps = spec.release.steps if len(spec.release.steps) > 1 else ReleaseSpec().steps
    return Manner(conditions_of(spec), steps, terms_of(spec))


def manner_before(store: Store, system: str) -> Manner:
    """As the stable revision of `system` was released, in default steps. Raises UserError where nothing is stable."""
    stable = _live(store, system)
    brought = load_rollout(store, system, stable.number)
    assert brought is not None, "a revision has the number of the rollout that brought it"
    return Manner(brought.conditions, ReleaseSpec().steps, brought.terms)


def planted(defect: Defect, typical_s: float) -> Planted:
    """What a replica does of `defect`; `typical_s` is what an answer usually takes."""
    return Planted(defect.name, defect.size * typical_s if defect.name == LATENCY else defect.size)


def request_drill(
    store: Store, system: str, defect: Defect, manner: Manner, *, typical_s: float, now: float
) -> Rollout:
    """A rollout of a copy of the stable revision with a defect, which ends in stable's favour whatever happens.

    Raises UserError where nothing is stable, GateRefused while a release runs, and StoreConflict when somebody else
    asked at the same instant.
    """
    stable, (last, _) = _live(store, system), newest_rollout(store, system)
    if last is not None and is_running(last):
        raise GateRefused(
            f"{last.name} is running ({last.state.value}), so nothing can be drilled", remedy="wait until it has ended"
        )
    number = last.number + 1 if last else 1
    drill = Rollout(
        system=system,
        number=number,
        candidate=replace(stable, number=number, planted=planted(defect, typical_s)),
        stable=stable,
        state=RolloutState.PENDING,
        step=0,
        steps=manner.steps,
        conditions={**manner.conditions, PARITY: ANY_PARITY} if defect.is_other_model else manner.conditions,
        gates=(),
        reason=f"a drill: a copy of {stable.version_name} with the defect {defect.name}",
        started_at=now,
        changed_at=now,
        kind=RolloutKind.DRILL,
        terms=drill_terms(manner.terms),
    )
    record = Put(rollout_key(drill), rollout_json(drill), expect=ABSENT)
    store.commit([record, *decision_puts(store, decisions_on(drill, now))])
    return drill


def _live(store: Store, system: str) -> Revision:
    present, _ = load_system(store, system)
    if present is None or present.stable is None or present.wanted != UP:
        raise UserError(f"there is no live system {system!r} to drill", remedy="bring it up first: platformops up SPEC")
    return present.stable


def drill_terms(terms: Terms) -> Terms:
    """The terms of the system's own releases, but that nobody waits: for approval, for time, or for a person."""
    return replace(
        terms,
        min_bake_s=min(terms.min_bake_s, MIN_BAKE_S),
        patience_s=PATIENCE_S,
        passes_unproven=False,
        halts=False,
        approvers=(),
    )


def case_of(name: str, rollout: Rollout, ledger: Ledger | None, *, lost: int, to_stable_s: float) -> Case:
    """The line of the scorecard for an ended drill."""
    users = exposed = copies = 0
    if ledger is not None:
        own, other = ledger.of(ledger.candidate), ledger.of(ledger.stable)
        exposed, copies, users = own.requests, own.copies, own.requests + other.requests
    return Case(
        name,
        caught_by(rollout),
        _verified(rollout) + exposed + copies,
        round(exposed / users, 6) if users else 0.0,
        lost,
        round(to_stable_s, 3),
        rollout.reason,
    )


def caught_by(rollout: Rollout) -> str:
    """What ended a drill: the gate or guard that failed, or the crash loop that Serve reported; empty for nothing."""
    if failed := [g.name for g in rollout.gates if not g.passed]:
        return failed[0]
    is_dead = rollout.state is RolloutState.ROLLED_BACK and "died" in rollout.reason
    return "crash loop" if is_dead else ""


def _verified(rollout: Rollout) -> int:
    """Requests that the verification sent."""
    asked = [g.evidence.get("asked") for g in rollout.gates if g.name == "servable"]
    return int(asked[0]) if asked and isinstance(asked[0], int | float) else 0


def drill_document(cases: Sequence[Case]) -> JsonObject:
    """The object that `drill --json` ends with."""
    return {
        "passed": bool(cases) and all(case.passed for case in cases),
        "cases": [
            {
                **{"name": c.name, "caught_by": c.caught_by, "requests_to_verdict": c.requests_to_verdict},
                **{"exposure_ratio": c.exposure_ratio, "requests_lost": c.requests_lost},
                **{"to_stable_s": c.to_stable_s, "reason": c.reason},
            }
            for c in cases
        ],
    }
