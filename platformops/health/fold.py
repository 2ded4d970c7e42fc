"""Folds what is observed of a node into its state: hysteresis, damping of flaps, probation after repair."""

from __future__ import annotations

from dataclasses import dataclass, replace

from platformops.health.states import NODE, NodeEvent, NodeState
from platformops.machine import advance

S, E = NodeState, NodeEvent

SUSPECT_RATIO = 0.5
"""Of the probability from which acting pays: suspicion costs nothing and comes first."""
CALM_RATIO = 0.3
CALM_S = 60.0
"""Leaving is harder than entering: below CALM_RATIO for this long without a break."""
FLAP_HALF_LIFE_S = 900.0
FLAP_SUPPRESS = 2.0
FLAP_REUSE = 0.75
"""A penalty of 1 a transition that halves in 15 minutes; above 2 a node's improvements are not believed until it has
fallen below 0.75: route flap damping (RFC 2439, sections 4.2 and 4.4)."""
PROBATION_S = 600.0
MOST_RETURNS = 2
RETURNS_WITHIN_S = 86_400.0
"""A node that returns for the third time within a day is barred: a crash loop at Meta was put back 35 times and
preempted 548 jobs (Kokolis et al., HPCA 2025)."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a node at one instant."""

    probability: float
    """Of a failure within the horizon, as decisions may use it."""
    acts_from: float
    """The probability from which the best remedy is cheaper than waiting."""
    is_dead: bool = False
    """The verdict of liveness, not one missed heartbeat."""
    has_passed_burn_in: bool = False
    is_pardoned: bool = False
    held: str = ""
    """Why it is not condemned yet, however ill it looks: others fell ill with it, or may do so in a moment."""
    slow: str = ""
    """Why it is slow, though it works; empty where it is not."""
    is_too_slow: bool = False
    """To let go on what runs there costs more than to move it."""
    why: str = ""
    """The strongest evidence, for the transition's reason."""


@dataclass(frozen=True, slots=True)
class Transition:
    at: float
    before: NodeState
    after: NodeState
    reason: str


@dataclass(frozen=True, slots=True)
class Condition:
    """Of one node; everything that the next fold needs."""

    state: NodeState = S.HEALTHY
    since: float = 0.0
    calm_since: float | None = None
    penalty: float = 0.0
    penalty_at: float = 0.0
    is_suppressed: bool = False
    returns: tuple[float, ...] = ()
    """When it came back, within the last day."""


@dataclass(frozen=True, slots=True)
class Folded:
    condition: Condition
    transition: Transition | None = None


def fold(condition: Condition, seen: Observation, now: float, *, subject: str = "node") -> Folded:
    """The condition after `seen`, with at most one transition; the same observations in order give the same answer."""
    condition = _calm(_fade(condition, now), seen, now)
    found = _event(condition, seen, now)
    if found is None:
        return Folded(condition)
    event, reason = found
    state = advance(NODE, condition.state, event, subject=subject)
    moved = replace(
        condition,
        state=state,
        since=now,
        penalty=condition.penalty + 1.0,
        is_suppressed=condition.is_suppressed or condition.penalty + 1.0 > FLAP_SUPPRESS,
        returns=_returns(condition, event, now),
        calm_since=None,
    )
    return Folded(moved, Transition(now, condition.state, state, reason))


def _event(condition: Condition, seen: Observation, now: float) -> tuple[NodeEvent, str] | None:
    state = condition.state
    if state is S.BARRED:
        return (E.PARDONED, "a person returned it") if seen.is_pardoned else None
    if seen.is_dead:
        return None if state is S.DEAD else (E.DIED, seen.why or "it is dead by every channel")
    if state is S.DEAD:
        return _back(condition, seen, E.RETURNED, "it answers again", now)
    return _worse(state, seen) or _better(condition, seen, now)


def _worse(state: NodeState, seen: Observation) -> tuple[NodeEvent, str] | None:
    said = f"; {seen.why}" if seen.why else ""
    is_ill = seen.probability >= seen.acts_from
    if is_ill and seen.held:
        return (E.SUSPECTED, seen.held) if state is S.HEALTHY else None
    if state is not S.UNHEALTHY and is_ill:
        return E.CONDEMNED, f"fails with {seen.probability:.1%}, acting pays from {seen.acts_from:.1%}{said}"
    if state is not S.UNHEALTHY and seen.is_too_slow:
        return E.CONDEMNED, f"slow for longer than a move of its work costs: {seen.slow}"
    if state is S.HEALTHY and seen.slow:
        return E.SUSPECTED, f"slow: {seen.slow}"
    if state is S.HEALTHY and seen.probability >= SUSPECT_RATIO * seen.acts_from:
        return (
            E.SUSPECTED,
            f"fails with {seen.probability:.1%}, half of the {seen.acts_from:.1%} from which acting pays{said}",
        )
    return None


def _better(condition: Condition, seen: Observation, now: float) -> tuple[NodeEvent, str] | None:
    """Improvements need a calm minute, and belief: a node that flaps is kept where it is."""
    calm_s = now - condition.calm_since if condition.calm_since is not None else 0.0
    if condition.state is S.HEALTHY or calm_s < CALM_S or condition.is_suppressed:
        return None
    if condition.state is S.SUSPECT:
        return E.CALMED, f"calm for {calm_s:.0f} s"
    if condition.state is S.UNHEALTHY:
        return _back(condition, seen, E.CALMED, f"calm for {calm_s:.0f} s", now)
    if seen.has_passed_burn_in and now - condition.since >= PROBATION_S:
        return E.PASSED, f"passed its burn-in and {now - condition.since:.0f} s of probation"
    return None


def _back(condition: Condition, seen: Observation, event: NodeEvent, reason: str, now: float) -> tuple[NodeEvent, str]:
    recent = [t for t in condition.returns if now - t < RETURNS_WITHIN_S]
    if len(recent) < MOST_RETURNS or seen.is_pardoned:
        return event, reason
    return E.BARRED, f"it would return for the {len(recent) + 1}th time within a day: a person has to look at it"


def _returns(condition: Condition, event: NodeEvent, now: float) -> tuple[float, ...]:
    if event is E.PARDONED:
        return ()
    recent = tuple(t for t in condition.returns if now - t < RETURNS_WITHIN_S)
    comes_back = event is E.RETURNED or (event is E.CALMED and condition.state is S.UNHEALTHY)
    return (*recent, now) if comes_back else recent


def _fade(condition: Condition, now: float) -> Condition:
    if condition.penalty == 0.0:
        return condition
    penalty = condition.penalty * 2.0 ** (-max(0.0, now - condition.penalty_at) / FLAP_HALF_LIFE_S)
    still = condition.is_suppressed and penalty >= FLAP_REUSE
    return replace(condition, penalty=penalty, penalty_at=now, is_suppressed=still)


def _calm(condition: Condition, seen: Observation, now: float) -> Condition:
    is_calm = not seen.is_dead and not seen.slow and seen.probability < CALM_RATIO * seen.acts_from
    if is_calm == (condition.calm_since is not None):
        return condition
    return replace(condition, calm_since=now if is_calm else None)
