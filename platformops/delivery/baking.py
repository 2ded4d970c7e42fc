"""What a step of a rollout comes to: harm, proof, or the end of its time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

from platformops.delivery.account import guard_results
from platformops.delivery.ledger import Ledger
from platformops.delivery.missing import duration_text, missing
from platformops.delivery.records import GateResult, Rollout, RolloutEvent
from platformops.delivery.verdict import WEIGHTS, Finding, Judgement, judge
from platformops.spec.conditions import release_weights

E = RolloutEvent


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ends, on which results."""

    event: RolloutEvent
    reason: str
    results: tuple[GateResult, ...]


def judged(rollout: Rollout, ledger: Ledger | None) -> Judgement | None:
    """What the account says of the rollout's candidate; None before there is one."""
    if ledger is None:
        return None
    return judge(ledger, rollout.terms, rollout.expected_disagreement, is_latency_due=_is_latency_due(rollout))


def _is_latency_due(rollout: Rollout) -> bool:
    """Whether the step is passed only by a candidate that is known to be as fast: the last one before all traffic is.

    A proof takes a thousand requests of users, which 1 % of a small team's traffic does not bring in a day, and copies
    tell nothing of latency. An alarm needs far fewer, and counts at every step.
    """
    return rollout.step == len(rollout.steps) - 2 and _share(rollout) > 0


def _share(rollout: Rollout) -> float:
    """Ratio of users' requests that the candidate gets at the present step."""
    return release_weights(rollout.steps)[rollout.step] / 100


def harm(rollout: Rollout, ledger: Ledger | None, judgement: Judgement | None) -> Rollout | None:
    """The rollout with what was found against it and why; None while nothing was."""
    if ledger is None or judgement is None or judgement.finding is not Finding.HARMFUL:
        return None
    results = guard_results(ledger, judgement, rollout.terms, rollout.expected_disagreement)
    guilty = next(r for r in results if not r.passed)
    seen = ledger.of(ledger.candidate)
    reason = f"{rollout.candidate.name} does harm: {guilty.reason}; after {_exposed(seen.requests, seen.copies)}"
    if not judgement.node:
        return replace(rollout, gates=(*kept(rollout), *results), reason=reason)
    excused = tuple(replace(r, passed=True) for r in results)
    doubt = f"{reason}; all of it on node {judgement.node}, where stable never ran, so it is no verdict on the model"
    return replace(rollout, gates=(*kept(rollout), *excused), reason=doubt, node=judgement.node)


def outcome(rollout: Rollout, ledger: Ledger | None, judgement: Judgement | None, now: float) -> Outcome | None:
    """The end of the present step; None while it goes on. Asked of a step that the router follows."""
    assert rollout.routed_at is not None, "a step bakes once it is routed"
    baked_s = now - rollout.routed_at
    if baked_s < rollout.terms.min_bake_s or ledger is None or judgement is None:
        return None
    results = partial(guard_results, ledger, judgement, rollout.terms, rollout.expected_disagreement)
    if judgement.finding is Finding.HARMLESS:
        reason = f"{_step(rollout)} passed: harm is below the margins ({', '.join(judgement.proven)})"
        return Outcome(E.STEP_PASSED, reason, results())
    allowed = _passes_unproven(rollout, baked_s)
    if not allowed and baked_s < rollout.terms.patience_s:
        return None
    lacking = _lacking(rollout, ledger, judgement, now)
    if allowed:
        return Outcome(E.STEP_PASSED, f"{_step(rollout)} passed without proof, {allowed}; {lacking}", results())
    reason = f"{_step(rollout)} could not be judged in {duration_text(baked_s)}: {lacking}"
    result = GateResult("evidence", False, reason, would_change="more requests, an approval, or `unproven: pass`")
    return Outcome(E.UNPROVEN, reason, (*results(), result))


def _passes_unproven(rollout: Rollout, baked_s: float) -> str:
    """Why the step needs no proof; empty when it does."""
    if approved := [a.who for a in rollout.approvals if a.of == "evidence"]:
        return f"approved by {approved[-1]}"
    if rollout.terms.passes_unproven and baked_s >= rollout.terms.max_bake_s:
        return f"no alarm in {duration_text(rollout.terms.max_bake_s)}"
    return ""


def waiting(rollout: Rollout, ledger: Ledger | None, now: float) -> str:
    """Why the present step is not passed yet, in one sentence for people."""
    judgement = judged(rollout, ledger)
    if rollout.routed_at is None or ledger is None or judgement is None:
        return "the router does not follow this step yet"
    left_s = rollout.terms.min_bake_s - (now - rollout.routed_at)
    if judgement.finding is Finding.HARMLESS or any(a.of == "evidence" for a in rollout.approvals):
        return f"{_step(rollout)} is passed in {duration_text(left_s)}" if left_s > 0 else f"{_step(rollout)} is passed"
    return f"{_step(rollout)}: {_lacking(rollout, ledger, judgement, now)}; {_otherwise(rollout, now)}"


def _otherwise(rollout: Rollout, now: float) -> str:
    """What becomes of a step that is not proven, and when."""
    assert rollout.routed_at is not None, "asked of a step that the router follows"
    terms, baked_s = rollout.terms, now - rollout.routed_at
    if terms.passes_unproven:
        return f"without an alarm it is passed in {duration_text(terms.max_bake_s - baked_s)}"
    return f"it is held for {duration_text(terms.patience_s - baked_s)}, then stable keeps the traffic"


def progress(rollout: Rollout, ledger: Ledger | None, now: float) -> str:
    """How the present step stands, for somebody who watches: evidence of harm, exposure so far, what is missing."""
    judgement = judged(rollout, ledger)
    if ledger is None or judgement is None:
        return waiting(rollout, ledger, now)
    exposed, asked = ledger.of(ledger.candidate).requests, ledger.of(ledger.stable).requests
    odds, alarm = math.exp(min(judgement.log_e, 50.0)), 1 / rollout.terms.false_alarm_ratio
    users = f"{exposed:,} of {exposed + asked:,} requests"
    return f"{waiting(rollout, ledger, now)}; harm {odds:.2g} to 1 of {alarm:g} to 1; exposed {users}"


def left_s(rollout: Rollout, ledger: Ledger | None, now: float) -> float | None:
    """About how long the present step still takes; None when what it lacks does not come."""
    judgement = judged(rollout, ledger)
    if rollout.routed_at is None or ledger is None or judgement is None:
        return None
    bakes_s = max(0.0, rollout.terms.min_bake_s - (now - rollout.routed_at))
    if judgement.finding is Finding.HARMLESS or _passes_unproven(rollout, now - rollout.routed_at):
        return bakes_s
    lacks = missing(ledger, judgement, rollout.terms, rollout.expected_disagreement, now, share=_share(rollout))
    return None if lacks.seconds is None else max(bakes_s, lacks.seconds)


def kept(rollout: Rollout) -> tuple[GateResult, ...]:
    """The results of earlier gates; those of guards are replaced by their latest."""
    return tuple(g for g in rollout.gates if g.name not in WEIGHTS)


def _lacking(rollout: Rollout, ledger: Ledger, judgement: Judgement, now: float) -> str:
    lacks = missing(ledger, judgement, rollout.terms, rollout.expected_disagreement, now, share=_share(rollout))
    return lacks.said


def _step(rollout: Rollout) -> str:
    return f"step {rollout.steps[rollout.step]}"


def _exposed(requests: int, copies: int) -> str:
    return f"{requests:,} requests of users and {copies:,} copies"
