"""How often a gang checkpoints: from the hazards of its nodes, what a checkpoint costs, and what is foreseen anyway."""

from __future__ import annotations

import math
from collections.abc import Iterable

LEAST_S = 30.0
MOST_S = 6.0 * 3600.0
CHANGE_RATIO = 0.1
"""A new interval that differs by less is not worth telling the gang."""


def mean_time_to_failure_s(hazards_per_s: Iterable[float]) -> float:
    """Of a gang that stops when any node of it fails: independent Poisson processes add up."""
    total = sum(hazards_per_s)
    return 1.0 / total if total > 0.0 else math.inf


def young_s(checkpoint_s: float, failure_s: float) -> float:
    """Seconds between checkpoints that lose the least time to writing and to doing again: sqrt(2 C mu).

    Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974.
    """
    return math.sqrt(2.0 * checkpoint_s * failure_s)


def daly_s(checkpoint_s: float, failure_s: float) -> float:
    """Daly's higher-order interval, of work between checkpoints (Future Generation Computer Systems 22, 2006, eq. 37).

    sqrt(2 C mu) (1 + sqrt(C / 2 mu) / 3 + (C / 2 mu) / 9) - C below C = 2 mu, else mu.
    """
    if checkpoint_s >= 2.0 * failure_s:
        return failure_s
    half = checkpoint_s / (2.0 * failure_s)
    return young_s(checkpoint_s, failure_s) * (1.0 + math.sqrt(half) / 3.0 + half / 9.0) - checkpoint_s


def checkpoint_interval_s(hazards_per_s: Iterable[float], *, checkpoint_s: float, foreseen_ratio: float = 0.0) -> float:
    """Seconds of work between two checkpoints of a gang, within LEAST_S to MOST_S.

    Failures that are foreseen in time cost no work, so only the others count: mu / (1 - recall), as in Aupy, Robert &
    Vivien (Checkpointing algorithms and fault prediction, JPDC 74, 2014, section 4).
    """
    failure_s = mean_time_to_failure_s(hazards_per_s) / max(1.0 - foreseen_ratio, 1e-6)
    if math.isinf(failure_s):
        return MOST_S
    return min(max(daly_s(checkpoint_s, failure_s), LEAST_S), MOST_S)


def is_worth_changing(current_s: float, wanted_s: float) -> bool:
    return abs(wanted_s - current_s) > CHANGE_RATIO * current_s
