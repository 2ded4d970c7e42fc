"""What a gateway answered between looks, by system, as short lines of bars: for whoever watches `status`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platformops.observation import metrics

if TYPE_CHECKING:
    from platformops.cli.measuring import Counted

BARS = "▁▂▃▄▅▆▇█"
MOST_POINTS = 40


@dataclass(frozen=True, slots=True)
class Point:
    """One system between two looks."""

    per_s: float
    errors_ratio: float
    p99_s: float
    """At most; NaN without a request."""


def sparkline(values: Sequence[float]) -> str:
    """A bar a value from nothing to the largest; a blank where there is none."""
    most = max((v for v in values if math.isfinite(v)), default=0.0)
    return "".join(_bar(value, most) for value in values)


def _bar(value: float, most: float) -> str:
    if not math.isfinite(value):
        return " "
    return BARS[round((len(BARS) - 1) * value / most)] if most > 0 else BARS[0]


class Trends:
    """The last MOST_POINTS points of every system."""

    def __init__(self) -> None:
        self._before: tuple[float, Counted] | None = None
        self.points: dict[str, deque[Point]] = {}

    def look(self, counted: Counted, now: float) -> None:
        """`counted` is everything that the gateway exports at `now`."""
        if self._before is not None and now > self._before[0]:
            began, before = self._before
            for system in sorted({str(dict(labels).get("system")) for name, labels in counted if name in _REQUESTS}):
                kept = self.points.setdefault(system, deque(maxlen=MOST_POINTS))
                kept.append(point_of(before, counted, system, now - began))
        self._before = (now, counted)

    def lines(self, system: str) -> list[str]:
        """Name, bars and newest value of each trend; empty before the second look."""
        points = self.points.get(system)
        if not points:
            return []
        rows = (
            ("requests/s", [p.per_s for p in points], "{:,.1f}"),
            ("p99 ms", [1e3 * p.p99_s for p in points], "{:,.0f}"),
            ("errors %", [100 * p.errors_ratio for p in points], "{:.2g}"),
        )
        return [f"{name:<11}{sparkline(values)} {_newest(values, form)}" for name, values, form in rows]


def _newest(values: Sequence[float], form: str) -> str:
    return form.format(values[-1]) if math.isfinite(values[-1]) else "-"


_REQUESTS = metrics.REQUESTS.exported


def point_of(before: Counted, after: Counted, system: str, seconds: float) -> Point:
    """What came between two looks, `seconds` apart."""
    requests = _grown(before, after, metrics.REQUESTS.exported[0], system)
    count = sum(requests.values())
    failed = sum(grown for labels, grown in requests.items() if dict(labels)["status"].startswith("5"))
    by_bound: dict[float, float] = {}
    for labels, grown in _grown(before, after, metrics.REQUEST_SECONDS.exported[0], system).items():
        bound = float(dict(labels)["le"])
        by_bound[bound] = by_bound.get(bound, 0.0) + grown
    return Point(count / seconds, failed / count if count else 0.0, _quantile(by_bound, 0.99))


def _grown(before: Counted, after: Counted, name: str, system: str) -> Mapping[tuple[tuple[str, str], ...], float]:
    """By labels; a counter that fell was started anew and counts from nothing."""
    found = {}
    for (each, labels), value in after.items():
        if each == name and dict(labels).get("system") == system:
            was = before.get((each, labels), 0.0)
            found[labels] = value - was if value >= was else value
    return found


def _quantile(by_bound: Mapping[float, float], share: float) -> float:
    """The bound of the bucket in which the quantile lies, the last finite one beyond that; NaN for empty buckets."""
    total = by_bound.get(math.inf, 0.0)
    if not total:
        return math.nan
    bounds = sorted(by_bound)
    reached = next(bound for bound in bounds if by_bound[bound] >= share * total)
    return reached if math.isfinite(reached) else max(b for b in bounds if math.isfinite(b))
