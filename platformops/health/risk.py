"""Records of prediction: what was read of a node, what each reading is worth, and the risk that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

Readings = Mapping[str, float | None]
"""Signal -> value; a signal that is missing, None or NaN has a bin of its own, learnt as such."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that is read of a node."""

    name: str
    words: str
    """For people, completed by the value: "sectors that wait to be reallocated"."""
    num_knots: int = 8
    """Between its knots the log ratio is a straight line; two knots make it log-linear in the value."""
    is_category: bool = False
    """The value is a code without an order; each is learnt on its own."""


@dataclass(frozen=True, slots=True)
class Term:
    """One piece of evidence: Bayes' theorem adds `weight * ln(ratio)` to the log odds."""

    signals: tuple[str, ...]
    ratio: float
    """P(reading | fails) / P(reading | does not), given what the terms before it say."""
    weight: float
    words: str

    @property
    def log_odds(self) -> float:
        return self.weight * math.log(self.ratio)


@dataclass(frozen=True, slots=True)
class Risk:
    """The probability that a node fails within the horizon, and why."""

    probability: float
    horizon_s: float
    prior: float
    """From the hazard alone."""
    terms: tuple[Term, ...] = ()
    """Strongest first."""
    is_trusted: bool = True
    """Whether remedies may rest on `probability`; if not, only the prior and hard rules count."""
    reason: str = ""

    @property
    def actionable(self) -> float:
        """The probability that a decision may use."""
        return self.probability if self.is_trusted else self.prior


def logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))


def sigmoid(log_odds: float) -> float:
    if log_odds >= 0.0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1.0 + odds)
