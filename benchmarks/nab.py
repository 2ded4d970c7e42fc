"""The scoring rules of the Numenta Anomaly Benchmark, standard profile, for detectors that raise alarms.

After Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms" (ICMLA 2015): the first alarm in a window
earns by how early it is, further ones there nothing, a missed window costs 1, an alarm outside costs up to 0.11 by how
far behind the last window it is. 0 is the score of no alarm at all, 100 that of one at the start of each window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FALSE_ALARM = 0.11


@dataclass(frozen=True, slots=True)
class Judge:
    """What an alarm at each row of one series is worth."""

    probation: int
    """Rows at the start that are not scored."""
    window: NDArray[np.intp]
    """Number of the window that a row lies in, -1 outside."""
    worth: NDArray[np.float64]
    num_windows: int

    def raw(self, alarms: Iterable[int]) -> float:
        found: set[int] = set()
        total = 0.0
        for row in alarms:
            at = int(self.window[row])
            if row < self.probation or at in found:
                continue
            if at < 0:
                total += FALSE_ALARM * float(self.worth[row])
            else:
                found.add(at)
                total += float(self.worth[row])
        return total - (self.num_windows - len(found))


def judge(times: pd.Series, windows: Iterable[tuple[str, str]]) -> Judge:
    num_rows = len(times)
    stamps = pd.DatetimeIndex(times)
    bounds = sorted(
        (int(stamps.searchsorted(pd.Timestamp(a))), int(stamps.searchsorted(pd.Timestamp(b), side="right")) - 1)
        for a, b in windows
    )
    window, worth = np.full(num_rows, -1, np.intp), np.full(num_rows, -1.0)
    for number, (first, last) in enumerate(bounds):
        length = last - first + 1
        inside = np.arange(first, last + 1)
        window[inside] = number
        worth[inside] = _sigmoid(-(last - inside + 1) / length) / _sigmoid(np.array(-1.0))
        until = bounds[number + 1][0] if number + 1 < len(bounds) else num_rows
        behind = np.arange(last + 1, until)
        distance = (behind - last) / max(length - 1, 1)
        worth[behind] = np.where(distance > 3.0, -1.0, _sigmoid(distance))
    return Judge(int(0.15 * min(num_rows, 5000)), window, worth, len(bounds))


def normalised(raw: float, num_windows: int) -> float:
    return 100.0 * (raw + num_windows) / (2.0 * num_windows)


def _sigmoid(position: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(2.0 / (1.0 + np.exp(5.0 * position)) - 1.0)
