"""Plain records of drift: what is watched, what was found, and how two samples differ."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Kind(Enum):
    """What a stream tells; each kind has an equal share of the false alarms that are allowed."""

    INPUT = "input"
    MISSING = "missing"
    JOINT = "joint"
    """Of several inputs together: correlations that break while each input stays as it was."""
    PREDICTION = "prediction"
    LABEL = "label"
    ERROR = "error"
    """Of predictions whose truth is known."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One series of numbers that is watched by itself."""

    name: str
    kind: Kind
    share: float = 1.0
    """Of its kind's part of the false alarms, relative to the other streams of that kind."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A change that was confirmed."""

    stream: Stream
    row: int
    """Rows that had been seen when it was confirmed, the reference not counted."""
    since_row: int
    """Where the evidence for it begins."""
    log_evidence: float
    threshold: float
    """The evidence that is asked for."""

    @property
    def reason(self) -> str:
        return (
            f"{self.stream.name} ({self.stream.kind.value}) has changed since about row {self.since_row:,}: "
            f"log evidence {self.log_evidence:.1f} of {self.threshold:.1f} after {self.row:,} rows"
        )


@dataclass(frozen=True, slots=True)
class Contrast:
    """How the values of one column now differ from the reference, by a named test."""

    name: str
    test: str
    statistic: float
    p_value: float
    """Of a single look; `significant` accounts for all looks and columns."""
    psi: float
    distance: float
    """Wasserstein distance in standard deviations of the reference; NaN for categories."""
    missing_before: float
    missing_now: float
    is_significant: bool
