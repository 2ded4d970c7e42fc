"""Keeps probabilities honest: recalibrates them on decided cases, and says when they may not be acted on."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from platformops.health.risk import Risk, logit, sigmoid

LARGEST_ERROR = 0.05
"""Rolling calibration error above which a probability is not acted on."""
HALF_LIFE_S = 60.0 * 86_400.0
"""Old outcomes fade: models of failures go stale within months (Liu et al., SYSTOR 2023)."""
SHRINK = 20.0
"""Failures, observed or expected, before a class's own record is half believed."""
MIN_CASES = 50.0
"""Fewer decided cases than this tell nothing about a calibration error."""
EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Bins of the reliability diagram; failures are rare, so they are finer near 0."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A prediction whose horizon has passed."""

    node_class: str
    probability: float
    """As the model gave it, before recalibration."""
    failed: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """Discounted sums over decided cases."""

    cases: float = 0.0
    expected: float = 0.0
    observed: float = 0.0

    def add(self, probability: float, *, failed: bool) -> Bin:
        return Bin(self.cases + 1.0, self.expected + probability, self.observed + failed)

    def fade(self, kept_ratio: float) -> Bin:
        return Bin(self.cases * kept_ratio, self.expected * kept_ratio, self.observed * kept_ratio)


@dataclass(frozen=True, slots=True)
class Record:
    """What became of predictions so far; `at` is the instant its sums are discounted to."""

    at: float
    classes: Mapping[str, Bin] = field(default_factory=dict)
    """Raw probabilities: they set each class's correction."""
    bins: tuple[Bin, ...] = (Bin(),) * (len(EDGES) + 1)
    """Corrected probabilities: they show whether it worked."""


def learn_outcomes(record: Record, decided: Iterable[Decided], now: float) -> Record:
    """The record after `decided`, corrected as they were when they were made."""
    kept_ratio = 2.0 ** (-max(0.0, now - record.at) / HALF_LIFE_S)
    classes = {name: b.fade(kept_ratio) for name, b in record.classes.items()}
    bins = [b.fade(kept_ratio) for b in record.bins]
    for case in decided:
        corrected = correct(record, case.node_class, case.probability)
        i = bisect_right(EDGES, corrected)
        bins[i] = bins[i].add(corrected, failed=case.failed)
        classes[case.node_class] = classes.get(case.node_class, Bin()).add(case.probability, failed=case.failed)
    return replace(record, at=now, classes=classes, bins=tuple(bins))


def correct(record: Record, node_class: str, probability: float) -> float:
    """The probability recalibrated on the class's own outcomes.

    Platt's (1999) logistic recalibration with its slope held at 1: the odds are multiplied by those of what was
    observed over those of what was expected, each with SHRINK cases of either kind added. No outcomes, no change.
    """
    seen = record.classes.get(node_class)
    if seen is None or not 0.0 < probability < 1.0:
        return probability
    observed = (seen.observed + SHRINK) / (seen.cases - seen.observed + SHRINK)
    expected = (seen.expected + SHRINK) / (seen.cases - seen.expected + SHRINK)
    return sigmoid(logit(probability) + math.log(observed / expected))


def calibration_error(record: Record) -> float | None:
    """Expected calibration error (Naeini et al., AAAI 2015) over the record's bins; None with too few cases."""
    cases = sum(b.cases for b in record.bins)
    if cases < MIN_CASES:
        return None
    return sum(abs(b.expected - b.observed) for b in record.bins) / cases


def trust(record: Record, node_class: str, risk: Risk) -> Risk:
    """The risk with its probability recalibrated, and whether it may be acted on."""
    corrected = replace(risk, probability=correct(record, node_class, risk.probability))
    error = calibration_error(record)
    if error is None or error <= LARGEST_ERROR:
        return corrected
    reason = (
        f"predictions were off by {error:.3f} on average, allowed {LARGEST_ERROR:g}: "
        "only the failure history and hard rules count until they are right again"
    )
    return replace(corrected, is_trusted=False, reason=reason)
