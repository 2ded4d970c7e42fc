"""What the account of a release says of its candidate: harmful, harmless, or not known yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from platformops.delivery.contrast import NO_EVIDENCE, evidence
from platformops.delivery.evidence import Tally
from platformops.delivery.ledger import BEYOND, SAFE, WITHIN, Ledger
from platformops.delivery.sequential import above, below, lower_bound, mean_above, mixture
from platformops.delivery.terms import Terms

WEIGHTS: Mapping[str, float] = {
    "errors": 0.3,
    "latency": 0.15,
    "tail": 0.1,
    "slo": 0.1,
    "disagreement": 0.15,
    "quality": 0.1,
    "memory": 0.1,
}
"""Shares of the one error probability of a release; they sum to 1."""
EXCESS = 0.04
"""Where latencies cluster no shift of the median shows: then fewer than this many more slow answers are proof too."""
FEWEST_FOR_EXCESS = 1000
"""Fewer calls cannot prove that, and the bound costs more than all other guards together."""
LEAST_DISAGREEMENT = 0.005
"""Ties and rounding: even equal models differ on some inputs."""


class Finding(Enum):
    OPEN = "open"
    HARMLESS = "harmless"
    HARMFUL = "harmful"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known at one instant."""

    finding: Finding
    log_e: float
    """Evidence of harm, of all guards together; harmful from `log(1 / false_alarm_ratio)` on."""
    guards: Mapping[str, float]
    """Log evidence of harm by guard."""
    proven: Mapping[str, bool]
    """Guards that must hold before a step is passed, and whether they do."""
    node: str = ""
    """Where all evidence of harm sits, when only the candidate ran there: the node may be at fault, not the model."""

    @property
    def leading(self) -> str:
        """The guard with most evidence of harm."""
        return max(WEIGHTS, key=lambda name: (math.log(WEIGHTS[name]) + self.guards[name], name))


def judge(
    ledger: Ledger, terms: Terms, expected_disagreement: float | None, *, is_latency_due: bool = True
) -> Judgement:
    """The verdict on the account as it stands; the more often it is asked for, the earlier it comes, at no cost.

    `is_latency_due` says whether harmless must mean proven to be as fast, too.
    """
    candidate, stable = ledger.of(ledger.candidate), ledger.of(ledger.stable)
    guards = {
        "errors": _harm(ledger, "errors"),
        "latency": _harm(ledger, "latency"),
        "tail": _harm(ledger, "tail"),
        "slo": _harm(ledger, "slo"),
        "disagreement": _disagreement(candidate, terms, expected_disagreement),
        "quality": _harm(ledger, "quality") + _paired(candidate),
        "memory": _memory(candidate),
    }
    log_e = mixture([guards[name] for name in WEIGHTS], list(WEIGHTS.values()))
    proven = _proven(candidate, stable, terms, expected_disagreement)
    if is_latency_due:
        proven = {**proven, "latency": _latency_proven(ledger, terms)}
    if log_e >= math.log(1 / terms.false_alarm_ratio):
        judged = Judgement(Finding.HARMFUL, log_e, guards, proven)
        return Judgement(Finding.HARMFUL, log_e, guards, proven, _only_node(ledger, judged.leading))
    finding = Finding.HARMLESS if all(proven.values()) else Finding.OPEN
    return Judgement(finding, log_e, guards, proven)


def disagreement_limit(terms: Terms, expected: float | None) -> float | None:
    """Share of other answers that a step may have; None where nothing is known to compare with."""
    return None if expected is None else min(0.99, max(expected, LEAST_DISAGREEMENT) + terms.disagreement_margin)


def _harm(ledger: Ledger, guard: str) -> float:
    return evidence(*(ledger.bets.get(f"{guard}.{where}", NO_EVIDENCE) for where in (WITHIN, BEYOND)))


def _disagreement(candidate: Tally, terms: Terms, expected: float | None) -> float:
    limit = disagreement_limit(terms, expected)
    if limit is None:
        return 0.0
    return above(candidate.disagreements, candidate.compared, limit - terms.disagreement_margin / 2)


def _paired(candidate: Tally) -> float:
    """Both revisions judged on the same inputs: only those count on which one was right."""
    worse, better = candidate.only_own_wrong, candidate.only_other_wrong
    return mean_above(better, candidate.pairs - worse - better, worse, 0.0) if candidate.pairs else 0.0


def _memory(candidate: Tally) -> float:
    return mixture([m.log_e for m in candidate.memory.values()]) if candidate.memory else 0.0


def _proven(candidate: Tally, stable: Tally, terms: Terms, expected: float | None) -> Mapping[str, bool]:
    proven = {"errors": errors_proven(candidate, stable, terms)}
    limit = disagreement_limit(terms, expected)
    if limit is not None and candidate.copies:
        wanted = math.log(1 / terms.missed_ratio)
        proven["disagreement"] = below(candidate.disagreements, candidate.compared, limit) >= wanted
    return proven


def errors_proven(candidate: Tally, stable: Tally, terms: Terms, *, times: float = 1.0) -> bool:
    """Whether the share of failures is known to be less than the margin above stable's, were there `times` as much."""
    failures, trials, wanted = times * candidate.failures, times * candidate.trials, math.log(2 / terms.missed_ratio)
    estimate = stable.failures / stable.trials if stable.trials else 0.0
    if below(failures, trials, min(1.0, estimate + terms.errors_margin)) < wanted:
        return False  # no lower bound of stable's share is above its estimate
    floor = lower_bound(stable.failures, stable.trials, terms.missed_ratio / 2) if stable.failures else 0.0
    return below(failures, trials, floor + terms.errors_margin) >= wanted


def _latency_proven(ledger: Ledger, terms: Terms) -> bool:
    """Either the median moved by less than the margin, or hardly more answers are slower than it was."""
    if evidence(ledger.bets.get(f"latency.{SAFE}", NO_EVIDENCE)) >= math.log(1 / terms.missed_ratio):
        return True
    seen = ledger.slower
    if min(seen.trials, seen.other_trials) < FEWEST_FOR_EXCESS:
        return False
    floor = lower_bound(seen.other_failures, seen.other_trials, terms.missed_ratio / 2)
    return below(seen.failures, seen.trials, min(1.0, floor + EXCESS)) >= math.log(2 / terms.missed_ratio)


def _only_node(ledger: Ledger, guard: str) -> str:
    """The one node that all evidence against the candidate comes from, where stable was never seen."""
    within, across = (evidence(ledger.bets.get(f"{guard}.{w}", NO_EVIDENCE)) for w in (WITHIN, BEYOND))
    if across <= max(within, 0.0):
        return ""
    seen = {n for n, t in ledger.totals.get(ledger.candidate, {}).items() if t.trials}
    elsewhere = {n for n, t in ledger.totals.get(ledger.stable, {}).items() if t.trials}
    alone = seen - elsewhere
    return next(iter(alone)) if len(alone) == 1 and len(seen | elsewhere) > 1 else ""
