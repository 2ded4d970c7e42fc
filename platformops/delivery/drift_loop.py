"""What follows from a confirmed drift: one retraining at a time, within bounds, and never a worse model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from platformops.machine import advance

DAY_S = 86_400.0


class LoopState(Enum):
    WATCHING = "watching"
    CHOOSING = "choosing"
    """Labels after the change are gathered, and training windows tried on the newest of them."""
    TRAINING = "training"
    GATING = "gating"
    RELEASING = "releasing"
    COOLING = "cooling"
    PAUSED = "paused"
    """By a person, or by the breaker after failures in a row; `reason` says which."""


class LoopEvent(Enum):
    CONFIRMED = "confirmed"
    CHOSEN = "chosen"
    TRAINED = "trained"
    PASSED = "passed"
    ENDED = "ended"
    """A retraining came to its end, released or not."""
    COOLED = "cooled"
    PAUSED = "paused"
    RESUMED = "resumed"


S, E = LoopState, LoopEvent
LOOP = {
    (S.WATCHING, E.CONFIRMED): S.CHOOSING,
    (S.CHOOSING, E.CHOSEN): S.TRAINING,
    (S.TRAINING, E.TRAINED): S.GATING,
    (S.GATING, E.PASSED): S.RELEASING,
    (S.CHOOSING, E.ENDED): S.COOLING,
    (S.TRAINING, E.ENDED): S.COOLING,
    (S.GATING, E.ENDED): S.COOLING,
    (S.RELEASING, E.ENDED): S.COOLING,
    (S.COOLING, E.COOLED): S.WATCHING,
    (S.WATCHING, E.PAUSED): S.PAUSED,
    (S.COOLING, E.PAUSED): S.PAUSED,
    (S.CHOOSING, E.PAUSED): S.PAUSED,
    (S.TRAINING, E.PAUSED): S.PAUSED,
    (S.GATING, E.PAUSED): S.PAUSED,
    (S.PAUSED, E.RESUMED): S.WATCHING,
}
WORKING = frozenset({S.CHOOSING, S.TRAINING, S.GATING})


@dataclass(frozen=True, slots=True)
class LoopPolicy:
    """Bounds of the loop of one system."""

    cooldown_s: float = 6 * 3600.0
    """After a retraining, before the next drift is listened to."""
    most_a_day: int = 3
    most_failures: int = 2
    """Retrainings in a row without a release that open the breaker."""
    patience_s: float = DAY_S
    """For labels after the change; without enough of them nothing can be shown to be better."""
    longest_s: float = 6 * 3600.0
    """For one phase of the work, with all its attempts."""
    fewest_labels: int = 150
    """Labelled rows since the change before work begins: a third is for training, one to choose by, one to judge by."""


@dataclass(frozen=True, slots=True)
class DriftLoop:
    """The loop of one system."""

    system: str
    state: LoopState = LoopState.WATCHING
    cause: str = ""
    """What has changed, in words."""
    since: float = 0.0
    """When the change began, as far as is known."""
    changed_at: float = 0.0
    started_at: tuple[float, ...] = ()
    """Of the retrainings of the last day."""
    failures: int = 0
    """In a row."""
    reason: str = "nothing has changed"
    pending: str = ""
    """A drift that was confirmed while the loop could not take it up; it is taken up as soon as it can be."""
    pending_since: float = 0.0
    number: int = 0
    """Of the retraining, from 1."""
    gathered_at: float = 0.0
    """When there were enough labels for it; 0.0 before. Its work uses rows that were labelled until then."""
    version: int = 0
    """That it trained; 0 before."""
    heard: tuple[str, float] = ("", 0.0)
    """The model version whose drift was confirmed last, and when: it is not confirmed twice."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where the loop is now, and whether that is a change with something to do."""

    loop: DriftLoop
    has_moved: bool


def confirmed(loop: DriftLoop, cause: str, *, since: float, now: float, policy: LoopPolicy) -> Step:
    """A drift was confirmed: the loop begins, or says why it does not."""
    if loop.state is not S.WATCHING:
        # Its detector has raised its alarm and may not do so again: what it found must not be forgotten.
        later = loop if loop.pending else replace(loop, pending=cause, pending_since=since)
        return _stays(later, f"{cause}: waits, as the loop is {loop.state.value}")
    recent = tuple(at for at in loop.started_at if now - at < DAY_S)
    if len(recent) >= policy.most_a_day:
        return _stays(
            loop, f"{cause}: not taken up, as {len(recent)} of {policy.most_a_day} retrainings a day are used"
        )
    begun = replace(
        loop, cause=cause, since=since, started_at=(*recent, now), pending="", pending_since=0.0,
        number=loop.number + 1, gathered_at=0.0, version=0,
    )  # fmt: skip
    return _moves(begun, E.CONFIRMED, cause, now)


def gathered(loop: DriftLoop, labels: int, now: float) -> Step:
    """Enough labels came back since the change."""
    said = f"{labels} labels since the change are enough: training windows are tried on the newest of them"
    return Step(replace(loop, gathered_at=now, changed_at=now, reason=said), True)


def chosen(loop: DriftLoop, window: str, now: float) -> Step:
    """A training window was chosen."""
    return _moves(loop, E.CHOSEN, f"trains on {window}", now)


def trained(loop: DriftLoop, version: str, now: float) -> Step:
    """The run has registered a model version."""
    return _moves(loop, E.TRAINED, f"{version} is compared with the champion on the newest labels", now)


def judged(loop: DriftLoop, verdict: Verdict, now: float, policy: LoopPolicy) -> Step:
    """The gates on recent labels have spoken."""
    if verdict.is_better:
        return _moves(loop, E.PASSED, verdict.reason, now)
    return failed(loop, verdict.reason, now, policy)


def released(loop: DriftLoop, version: str, now: float) -> Step:
    """The guarded release has given the new version all traffic."""
    return _moves(replace(loop, failures=0), E.ENDED, f"{version} has all traffic", now)


def failed(loop: DriftLoop, reason: str, now: float, policy: LoopPolicy) -> Step:
    """No window helped, the run failed, a gate refused or a guard rolled back: the champion stays."""
    ended = replace(loop, failures=loop.failures + 1)
    step = _moves(ended, E.ENDED, f"the champion stays: {reason}", now)
    if ended.failures < policy.most_failures:
        return step
    tripped = f"{ended.failures} retrainings in a row did not help, the last one as {reason}"
    return _moves(step.loop, E.PAUSED, tripped, now)


def looked(loop: DriftLoop, now: float, policy: LoopPolicy) -> Step:
    """Time has passed: cooldowns end, and what takes too long is given up."""
    if loop.state is S.COOLING and now - loop.changed_at >= policy.cooldown_s:
        return _cooled(loop, now, policy)
    if loop.state is S.CHOOSING and not loop.gathered_at and now - loop.changed_at >= policy.patience_s:
        return failed(loop, "too few labels came back to show that a new model is better", now, policy)
    if loop.state in WORKING and loop.gathered_at and now - loop.changed_at >= policy.longest_s:
        return failed(loop, f"{loop.state.value} did not end within {policy.longest_s / 3600:g} h", now, policy)
    return Step(loop, False)


def _cooled(loop: DriftLoop, now: float, policy: LoopPolicy) -> Step:
    cooled = _moves(
        replace(loop, pending="", pending_since=0.0), E.COOLED, "nothing has changed since the last retraining", now
    )
    if not loop.pending:
        return cooled
    taken = confirmed(cooled.loop, loop.pending, since=loop.pending_since, now=now, policy=policy)
    if taken.has_moved:
        return taken
    again = replace(loop, changed_at=now, reason=taken.loop.reason)  # the budget is spent: it waits a cooldown more
    return Step(again, False)


def paused(loop: DriftLoop, who: str, now: float) -> Step:
    """A retraining under way is given up. Raises InvalidTransition while its model is released: abort that first."""
    given_up = f"; retraining {loop.number} is given up" if loop.state in WORKING else ""
    return _moves(loop, E.PAUSED, f"paused by {who}{given_up}", now)


def resumed(loop: DriftLoop, who: str, now: float) -> Step:
    return _moves(replace(loop, failures=0), E.RESUMED, f"resumed by {who}", now)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate is better than the champion on the same rows, and by how much."""

    is_better: bool
    reason: str


CONFIDENT = 2.33
"""Standard errors by which a candidate must be better: one in a hundred of equal ones would pass."""
FEWEST_ROWS = 50


def compared(champion: Sequence[float], candidate: Sequence[float]) -> Verdict:
    """By the paired differences of their errors on the newest labelled rows, which neither was fitted to."""
    gains = [a - b for a, b in zip(champion, candidate, strict=True)]
    n = len(gains)
    if n < FEWEST_ROWS:
        return Verdict(False, f"{n} labelled rows are too few to compare on, {FEWEST_ROWS} are needed")
    mean = sum(gains) / n
    error = math.sqrt(sum((g - mean) ** 2 for g in gains) / (n - 1) / n)
    usual = sum(champion) / n
    told = f"its error is {mean:+.4g} below the champion's {usual:.4g} on {n} rows, known to {error:.2g}"
    return Verdict(bool(mean > CONFIDENT * error), told)


def _moves(loop: DriftLoop, event: LoopEvent, reason: str, now: float) -> Step:
    state = advance(LOOP, loop.state, event, subject=f"drift loop {loop.system}")
    return Step(replace(loop, state=state, reason=reason, changed_at=now), True)


def _stays(loop: DriftLoop, reason: str) -> Step:
    return Step(replace(loop, reason=reason), False)
