"""What a step of a release still lacks: how many requests, and how long they take to come."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from platformops.delivery import verdict
from platformops.delivery.contrast import NO_EVIDENCE, evidence
from platformops.delivery.evidence import Tally
from platformops.delivery.ledger import SAFE, Ledger
from platformops.delivery.sequential import below
from platformops.delivery.terms import Terms
from platformops.delivery.verdict import Judgement, disagreement_limit

MOST_TIMES = 1 << 14
"""What needs more than so many times the evidence there is does not come from waiting."""
USUAL_LATENCY_REQUESTS = 1200
"""What equal models of usual spread need until their latencies are known to be alike."""
STAKE = math.log(7)
"""What a bet on an unknown effect costs before it wins."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What a step still lacks."""

    guards: tuple[str, ...]
    """That are not proven yet."""
    requests: int | None
    """To the candidate, with outcomes as they were so far; None when no number of them would do."""
    seconds: float | None
    """At the rate since the account was opened; None when nothing comes, or nothing would do."""

    @property
    def said(self) -> str:
        names = ", ".join(self.guards)
        if self.requests is None:
            return f"more requests like these do not show it to be harmless ({names})"
        wait = "none come at present" if self.seconds is None else f"about {duration_text(self.seconds)} at this rate"
        return f"about {self.requests:,} more requests are needed ({names}); {wait}"


def duration_text(seconds: float) -> str:
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1.0):.0f} s"


def missing(
    ledger: Ledger, judgement: Judgement, terms: Terms, expected: float | None, now: float, *, share: float = 0.0
) -> Missing:
    """What is lacking until the step is proven; `share` of users' requests go to the candidate, or copies for 0."""
    candidate, stable = ledger.of(ledger.candidate), ledger.of(ledger.stable)
    lacking = tuple(name for name, holds in judgement.proven.items() if not holds)
    needs = {
        "errors": lambda: _more(candidate.trials, lambda k: _errors_at(candidate, stable, terms, k)),
        "latency": lambda: _latency_lacks(ledger, terms),
        "disagreement": lambda: _more(
            candidate.compared, lambda k: _disagreement_at(candidate, terms, expected, k), floor=1
        ),
    }
    wanted = [needs[name]() for name in lacking]
    requests = None if None in wanted else max((n for n in wanted if n is not None), default=0)
    users = candidate.requests + stable.requests
    rate = (share * users if share else candidate.trials) / max(now - ledger.since, 1.0)
    return Missing(lacking, requests, requests / rate if requests is not None and rate > 0 else None)


def _errors_at(candidate: Tally, stable: Tally, terms: Terms, trials: float) -> bool:
    """Whether errors would be proven after so many requests, failing as often as so far (never, before any)."""
    times = trials / candidate.trials if candidate.trials else 0.0
    scaled = candidate if candidate.trials else Tally(copies=int(trials))
    return verdict.errors_proven(scaled, stable, terms, times=times or 1.0)


def _disagreement_at(candidate: Tally, terms: Terms, expected: float | None, trials: float) -> bool:
    limit = disagreement_limit(terms, expected)
    share = candidate.disagreements / candidate.compared if candidate.compared else 0.0
    return limit is not None and below(share * trials, trials, limit) >= math.log(1 / terms.missed_ratio)


def _more(trials: int, suffices: Callable[[float], bool], *, floor: int = 100) -> int | None:
    """The least number of further trials that suffices, to about a tenth."""
    present = max(trials, floor)
    total = float(present)
    while not suffices(total):
        total *= 1.1
        if total > MOST_TIMES * present:
            return None
    return max(1, math.ceil(total - trials))


def _latency_lacks(ledger: Ledger, terms: Terms) -> int | None:
    """Evidence grows in proportion to timed requests; before any, what equal models of usual spread need."""
    won = evidence(ledger.bets.get(f"latency.{SAFE}", NO_EVIDENCE))
    trials, wanted = sum(ledger.of(ledger.candidate).latencies.values()), math.log(1 / terms.missed_ratio)
    if trials < USUAL_LATENCY_REQUESTS // 4:
        return USUAL_LATENCY_REQUESTS - trials
    pace = max(won + STAKE, 0.05 * math.sqrt(trials)) / trials
    return max(1, math.ceil((wanted + STAKE) / pace) - trials)
