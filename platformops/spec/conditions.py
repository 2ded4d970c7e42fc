"""The small languages inside the YAML: percentages, durations, release steps, gate conditions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from platformops.errors import UserError

Operator = Literal[">=", "<=", ">", "<"]
_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?) ?%", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_CONDITION = re.compile(
    rf"(?P<operator>>=|<=|>|<) *(?:(?P<limit>[+-]?{_NUMBER})"
    rf"|(?P<champion>champion)(?: *(?P<sign>[+-]) *(?P<margin>{_NUMBER}))?)"
    r"(?: +at +(?P<confidence>\d{1,3}(?:\.\d+)? ?%))?",
    re.ASCII,
)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
MOST_DURATION_S = 366 * 86_400.0
SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Condition:
    """`metric operator limit`, or `metric operator champion + margin`."""

    metric: str
    operator: Operator
    limit: float
    """Of an absolute condition; 0 for a relative one."""
    relative_to_champion: bool = False
    margin: float = 0.0
    """Added to the champion's figure: `champion - 0.01` has -0.01."""
    confidence: float | None = None
    """Ratio from 0 to 1 with which the condition must hold; None: the measured figure itself decides."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Answers of the live endpoint against the offline evaluation."""

    tolerance: float
    """Largest absolute difference of a probability; 0 for `exact`: equal labels, and numbers equal to rounding."""


def percent(text: str) -> float:
    """`5%` as the ratio 0.05; from 0% to 100%."""
    match = _PERCENT.fullmatch(text.strip())
    ratio = float(match[1]) / 100 if match else math.inf
    if ratio > 1:
        raise UserError("must be a percentage from 0% to 100%, such as 5%")
    return ratio


def duration_s(text: str) -> float:
    """`90s`, `1h30m`, `6h`, `2d` in seconds; more than zero, at most a year."""
    seconds = 0.0
    if _DURATION.fullmatch(text.strip()):
        seconds = sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(text))
    if not 0 < seconds <= MOST_DURATION_S:
        raise UserError("must be a duration of at most a year, such as 90s, 15m, 1h30m or 6h")
    return seconds


def release_weights(steps: Sequence[str]) -> tuple[float, ...]:
    """Percent of traffic at each step (shadow is 0): rising, from more than 0 to 100."""
    weights = tuple(0.0 if step == SHADOW and i == 0 else 100 * _step(step) for i, step in enumerate(steps))
    if not weights or weights[-1] != 100 or any(b <= a for a, b in pairwise(weights)):
        raise UserError("must rise and end at 100%, such as [shadow, 1%, 10%, 50%, 100%]")
    return weights


def _step(text: str) -> float:
    if text == SHADOW:
        raise UserError("`shadow` can only be the first step")
    try:
        ratio = percent(text)
    except UserError:
        raise UserError("must be `shadow` and percentages, such as [shadow, 1%, 10%, 50%, 100%]") from None
    if ratio == 0:
        raise UserError("must not hold 0%; `shadow` sends copies without answering from them")
    return ratio


def condition(metric: str, text: str) -> Condition:
    """A gate's condition; raises UserError that shows the accepted forms."""
    match = _CONDITION.fullmatch(text.strip())
    if not match:
        raise UserError('must be a condition such as ">= 0.95", "<= 80" or ">= champion - 0.01 at 95%"')
    confidence = percent(match["confidence"]) if match["confidence"] else None
    if confidence is not None and not 0.5 <= confidence < 1:
        raise UserError("must have a confidence from 50% to less than 100%")
    limit, margin = float(match["limit"] or 0), float(f"{match['sign'] or ''}{match['margin'] or 0}")
    if not math.isfinite(limit) or not math.isfinite(margin):
        raise UserError("must compare with a finite number")
    return Condition(metric, _operator(match["operator"]), limit, bool(match["champion"]), margin, confidence)


def _operator(text: str) -> Operator:
    operators: dict[str, Operator] = {">=": ">=", "<=": "<=", ">": ">", "<": "<"}
    return operators[text]


def parity(text: str) -> Parity:
    """The value of the gate `parity`: `exact`, or the largest difference that is let through."""
    if text.strip() == "exact":
        return Parity(0.0)
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance <= 1:
        raise UserError('must be `exact` or a tolerance from 0 to 1 in quotes, such as "0.001"')
    return Parity(tolerance)
