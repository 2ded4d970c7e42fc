"""Two streams of yes-or-no observations compared block by block: is one's failure probability above the other's?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from platformops.delivery.sequential import EFFECTS, mixture


@dataclass(frozen=True, slots=True)
class Block:
    """What both streams did meanwhile. Where blocks end may depend on how many came, never on how they ended."""

    trials: int
    failures: int
    other_trials: int
    other_failures: int

    @property
    def is_two_sided(self) -> bool:
        return self.trials > 0 and self.other_trials > 0


EMPTY = Block(0, 0, 0, 0)
NO_EVIDENCE = (0.0,) * len(EFFECTS)


def joined(first: Block, second: Block) -> Block:
    return Block(
        first.trials + second.trials,
        first.failures + second.failures,
        first.other_trials + second.other_trials,
        first.other_failures + second.other_failures,
    )


def bet(logs: tuple[float, ...], block: Block, rate: float, *, is_worse: bool) -> tuple[float, ...]:
    """The logarithms of one e-process an effect after `block`; `mixture` of them is the evidence.

    Against "the stream fails no more often than the other" with `is_worse`, else against "no less often". Each factor
    is the likelihood of the block when the other fails with `rate` and this one with odds higher (lower) by the effect,
    over its likelihood when both fail with the mean of the two: an e-variable for equal streams whatever their common
    rate, for blocks of any size (Turner, Ly and Gruenwald 2024, "Generic E-variables for exact sequential k-sample
    tests", JSPI 230). It only shrinks when the stream is better than the other, and when the outcomes of a block are
    positively dependent across streams. `rate` must come from earlier blocks; a common rate that changes from block to
    block costs power, never validity. Strata are compared by betting on each in turn (Turner and Gruenwald 2023,
    "Safe sequential testing and effect estimation in stratified count data", AISTATS).
    """
    if not block.is_two_sided:
        return logs
    side = 1.0 if is_worse else -1.0
    odds = rate / (1.0 - rate)
    return tuple(log + _factor(block, odds, odds * math.exp(side * d)) for log, d in zip(logs, EFFECTS, strict=True))


def _factor(block: Block, other_odds: float, odds: float) -> float:
    p, q = odds / (1 + odds), other_odds / (1 + other_odds)
    trials, failures = block.trials + block.other_trials, block.failures + block.other_failures
    both = (block.trials * p + block.other_trials * q) / trials
    return (
        block.failures * math.log(p)
        + (block.trials - block.failures) * math.log1p(-p)
        + block.other_failures * math.log(q)
        + (block.other_trials - block.other_failures) * math.log1p(-q)
        - failures * math.log(both)
        - (trials - failures) * math.log1p(-both)
    )


def evidence(*processes: Iterable[float]) -> float:
    """Log evidence of strata together: what was bet on the same effect in each is multiplied."""
    return mixture([sum(logs) for logs in zip(*processes, strict=True)])
