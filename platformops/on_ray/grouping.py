"""Decides which parts of a source one task reads; pure, and the same on any machine, since shards follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from platformops.apps.contract import Part

ROW_S = 20e-6
"""CPU time that a small image costs: its decoder is started, its digest taken, its row written."""
BYTE_S = 1.2e-9
"""CPU time for each further byte of decoded pixels."""
GROUP_S = (0.2, 4.0)
"""CPU time of a group, at least and at most: between two tasks a core waits for the executor of Ray Data, which
looks ten times a second, and progress is seen once a group."""
EVEN_GROUPS = 8
"""A source has at least so many where that keeps them above the least time, so that slow ones are evened out."""
MAX_GROUPS = 128
"""Each leaves a file a split, and a training maps them all: processes may often have 1,024 files open."""
UNKNOWN_ROWS = 256
"""Of a part that does not say how many it has."""


def grouped(parts: Sequence[Part], row_bytes: int) -> list[list[Part]]:
    """Neighbouring parts together, in order, and as one where they follow on one another.

    `row_bytes` is what a typical row has in decoded pixels.
    """
    costs = [_rows(part) * (ROW_S + BYTE_S * row_bytes) for part in parts]
    least_s, most_s = GROUP_S
    wanted_s = max(min(most_s, max(least_s, sum(costs) / EVEN_GROUPS)), sum(costs) / MAX_GROUPS)
    groups: list[list[Part]] = []
    taken_s = wanted_s
    for part, cost_s in zip(parts, costs, strict=True):
        if taken_s + cost_s / 2 >= wanted_s:
            groups.append([])
            taken_s = 0.0
        if groups[-1] and _goes_on(groups[-1][-1], part):
            part = replace(groups[-1].pop(), stop=part.stop)
        groups[-1].append(part)
        taken_s += cost_s
    return groups


def _goes_on(one: Part, other: Part) -> bool:
    """Whether `other` begins where `one` ends: read as one part, their file is opened once."""
    is_range = one.stop is not None and other.stop is not None and not one.files and not other.files
    return is_range and (one.uri, one.columns, one.stop) == (other.uri, other.columns, other.start)


def _rows(part: Part) -> int:
    if part.files:
        return len(part.files)
    return part.stop - part.start if part.stop is not None else UNKNOWN_ROWS
