"""Whether a live system answers well enough to go on: judged on the answers to a short burst of requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from platformops.delivery.ci.records import Check
from platformops.spec.conditions import percent
from platformops.spec.types import SloSpec

WARM_UP_EACH = 5
"""Requests to a replica until its latency is that of a warm one. Right after a release most replicas were asked by its
gates already: the first answer took 40 ms, the median 24. One that came by scaling, or after a restart, was not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request."""

    status: int
    """0 when nobody answered."""
    seconds: float
    version: str = ""
    """Name of the model version that answered."""


def warm_up_requests(replicas_most: int, at_once: int) -> int:
    """How many requests go before those whose latency counts: a replica that was never asked fills its caches with the
    first ones, which tells nothing of the objective. Enough that each replica gets some."""
    return WARM_UP_EACH * max(replicas_most, at_once)


def judged_answers(answers: Sequence[Answer], slo: SloSpec, *, version: str, warm_up: int = 0) -> tuple[Check, ...]:
    """Errors and the 99th percentile against the objective, and that it was `version` that answered.

    Of the first `warm_up` answers the latency is not judged; errors and version are.
    """
    good = [answer for answer in answers if answer.status == 200]
    timed = [answer.seconds for answer in answers[warm_up:] if answer.status == 200]
    failed, allowed = len(answers) - len(good), percent(slo.errors)
    ratio = failed / len(answers) if answers else 1.0
    p99_ms = 1000 * burst_quantile(timed, 0.99)
    strangers = sorted({answer.version for answer in good} - {version})
    said = f"{failed} of {len(answers)} requests failed{_counted(a.status for a in answers if a.status != 200)}"
    others = f"{', '.join(strangers) or 'nobody'} answered, not {version}"
    answered = others if strangers or not good else f"{version} answered"
    return (
        Check("errors", ratio <= allowed, f"{said}, allowed {allowed:.2%}"),
        Check("p99_ms", p99_ms <= slo.p99_ms, f"p99 {p99_ms:.1f} ms of {len(timed)}, allowed {slo.p99_ms:g}"),
        Check("version", bool(good) and not strangers, answered),
    )


def burst_quantile(seconds: Sequence[float], q: float) -> float:
    """The quantile, but never the slowest of several: of less than 1 / (1 - q) values that would be the maximum, and
    one hiccup of the machine would be called a percentile."""
    if len(seconds) < 2:
        return quantile(seconds, q)
    return min(quantile(seconds, q), sorted(seconds)[-2])


def quantile(seconds: Sequence[float], q: float) -> float:
    """The smallest value that a share `q` of the values does not exceed; infinite without values."""
    ranked = sorted(seconds)
    return ranked[max(0, math.ceil(q * len(ranked)) - 1)] if ranked else math.inf


def _counted(statuses: Iterable[int]) -> str:
    counts = Counter(statuses)
    said = [f"{number} with {status or 'no answer'}" for status, number in sorted(counts.items())]
    return f" ({', '.join(said)})" if said else ""
