"""A two-state filter: is the node failing, given that nodes fall ill, recover, and show it? Bayes at each reading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from platformops.health.hazard import failure_probability
from platformops.health.risk import logit, sigmoid

RECOVERY_S = 4.0 * 3600.0
"""Mean time after which what was wrong has passed unless something still speaks for it."""
MOST_LOG_ODDS = 12.0


@dataclass(frozen=True, slots=True)
class Belief:
    """P(failing) at `at` as log odds, and what each signal has added to it so far."""

    at: float
    log_odds: float = -MOST_LOG_ODDS
    counted: Mapping[str, float] = field(default_factory=dict)

    @property
    def failing(self) -> float:
        return sigmoid(self.log_odds)


def at_rest(hazard_per_s: float, now: float) -> Belief:
    """The belief of a node of which nothing has been read: ill at its hazard, for the time that illness lasts."""
    return Belief(now, _within(failure_probability(hazard_per_s * RECOVERY_S)))


def predict(belief: Belief, hazard_per_s: float, now: float) -> Belief:
    """The belief at `now` without news: p = p (1 - r) + (1 - p) h, with h and r from the rates of both changes.

    The prediction step of the forward algorithm of a hidden Markov model (Rabiner, Proc. IEEE 77, 1989).
    """
    passed_s = now - belief.at
    if passed_s <= 0.0:
        return belief
    stays = math.exp(-passed_s / RECOVERY_S)
    falls_ill = failure_probability(hazard_per_s * passed_s)
    p = belief.failing * stays + (1.0 - belief.failing) * falls_ill
    counted = {name: value * stays for name, value in belief.counted.items()}
    return Belief(now, _within(p), counted)


def update(belief: Belief, log_ratios: Mapping[str, float]) -> Belief:
    """The belief after readings, each with its weighted log likelihood ratio.

    A signal that is sampled each second says one thing, not sixty a minute: only the change against what it has added
    already counts, and that fades as the belief itself does. A signal that is not mentioned changes nothing.
    """
    added = sum(value - belief.counted.get(name, 0.0) for name, value in log_ratios.items())
    odds = min(max(belief.log_odds + added, -MOST_LOG_ODDS), MOST_LOG_ODDS)
    return Belief(belief.at, odds, {**belief.counted, **log_ratios})


def within_horizon(belief: Belief, hazard_per_s: float, horizon_s: float) -> float:
    """P(it fails within the horizon): it is failing already, or it is not and falls ill meanwhile."""
    p = belief.failing
    return p + (1.0 - p) * failure_probability(hazard_per_s * horizon_s)


def _within(p: float) -> float:
    least = sigmoid(-MOST_LOG_ODDS)
    return logit(min(max(p, least), 1.0 - least))
