"""Whether a live system answers well enough to go on: judged on the answers to a short burst of requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from platformops.delivery.ci.records import Check
from platformops.spec.conditions import percent
from platformops.spec.types import SloSpec


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request."""

    status: int
    """0 when nobody answered."""
    seconds: float
    version: str = ""
    """Name of the model version that answered."""


def judged_answers(answers: Sequence[Answer], slo: SloSpec, *, version: str) -> tuple[Check, ...]:
    """Errors and the 99th percentile against the objective, and that it was `version` that answered."""
    good = [answer for answer in answers if answer.status == 200]
    failed, allowed = len(answers) - len(good), percent(slo.errors)
    ratio = failed / len(answers) if answers else 1.0
    p99_ms = 1000 * quantile([answer.seconds for answer in good], 0.99)
    strangers = sorted({answer.version for answer in good} - {version})
    said = f"{failed} of {len(answers)} requests failed{_counted(a.status for a in answers if a.status != 200)}"
    others = f"{', '.join(strangers) or 'nobody'} answered, not {version}"
    answered = others if strangers or not good else f"{version} answered"
    return (
        Check("errors", ratio <= allowed, f"{said}, allowed {allowed:.2%}"),
        Check("p99_ms", p99_ms <= slo.p99_ms, f"p99 {p99_ms:.1f} ms, allowed {slo.p99_ms:g}"),
        Check("version", bool(good) and not strangers, answered),
    )


def quantile(seconds: Sequence[float], q: float) -> float:
    """The smallest value that a share `q` of the values does not exceed; infinite without values."""
    ranked = sorted(seconds)
    return ranked[max(0, math.ceil(q * len(ranked)) - 1)] if ranked else math.inf


def _counted(statuses: Iterable[int]) -> str:
    counts = Counter(statuses)
    said = [f"{number} with {status or 'no answer'}" for status, number in sorted(counts.items())]
    return f" ({', '.join(said)})" if said else ""
