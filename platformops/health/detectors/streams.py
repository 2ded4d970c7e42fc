"""Anomalies of one metric: level, spread and time of day, each as a surprise, and the episodes that they make."""

from __future__ import annotations

from math import sqrt

from platformops.health.detectors.averages import Ewma
from platformops.health.detectors.surprise import Surprise

DAY_S = 86_400.0
SLOTS_A_DAY = 48
TINY = 1e-9
RELATIVE = 1e-3  # of the level: below it a change is of no interest, however constant the series was


class LevelShift:
    """How far the mean of the last 20 samples is from that of the last 200, in standard deviations of the latter.

    The two-window form of an EWMA chart, Roberts (1959), with the scale estimated from the slow window.
    """

    __slots__ = ("_fast", "_slow", "_square")

    def __init__(self, fast: float = 0.05, slow: float = 0.005) -> None:
        self._fast, self._slow, self._square = Ewma(fast), Ewma(slow), Ewma(slow)

    def add(self, value: float) -> float:
        if self._slow.is_empty:
            self._slow.add(value)
            self._fast.add(value)
            return 0.0
        level, spread = self._slow.mean, sqrt(self._square.mean)
        shift = (self._fast.add(value) - level) / (spread + RELATIVE * abs(level) + TINY)
        self._square.add((value - level) ** 2)
        self._slow.add(value)
        return shift


class SpreadShift:
    """Ratio of the variance about the local mean of the last 50 samples to that of the last 500.

    An exponentially weighted mean square chart: MacGregor and Harris, Journal of Quality Technology 25 (1993).
    """

    __slots__ = ("_fast", "_mean", "_slow")

    def __init__(self, mean: float = 0.05, fast: float = 0.02, slow: float = 0.002) -> None:
        self._mean, self._fast, self._slow = Ewma(mean), Ewma(fast), Ewma(slow)

    def add(self, value: float) -> float:
        if self._mean.is_empty:
            self._mean.add(value)
            return 1.0
        square = (value - self._mean.mean) ** 2
        self._mean.add(value)
        usual = self._slow.mean if not self._slow.is_empty else square
        self._slow.add(square)
        return (self._fast.add(square) + 1e-12) / (usual + 1e-12)


class DailyShift:
    """How far the last five samples are from what is usual at their time of day, in standard deviations.

    Holt-Winters without a trend, with the period fixed at a day and half an hour a slot: Winters (1960).
    """

    __slots__ = ("_days", "_level", "_now", "_recent", "_slot", "_square", "_usual")

    def __init__(self) -> None:
        self._usual = [0.0] * SLOTS_A_DAY
        self._days = [0] * SLOTS_A_DAY
        self._slot = -1
        self._now = Ewma(TINY)
        self._recent, self._square, self._level = Ewma(0.2), Ewma(0.005), Ewma(0.005)

    def add(self, value: float, at_s: float) -> float:
        slot = int(at_s % DAY_S * SLOTS_A_DAY / DAY_S)
        if slot != self._slot:
            self._close()
            self._slot = slot
        error = value - self._usual[slot] if self._days[slot] else 0.0
        self._now.add(value)
        spread = sqrt(self._square.mean)
        self._square.add(error * error)
        scale = spread + RELATIVE * self._level.add(abs(value)) + TINY
        return self._recent.add(error) / scale

    def _close(self) -> None:
        """The half hour that ended becomes part of what is usual then: a fifth of it once five days are known."""
        if self._slot < 0:
            return
        self._days[self._slot] += 1
        weight = max(1.0 / self._days[self._slot], 0.2)
        self._usual[self._slot] += weight * (self._now.mean - self._usual[self._slot])
        self._now = Ewma(TINY)


class StreamScorer:
    """How surprising each sample of one metric is: 1 is once in ten, 3 once in a thousand; constant memory.

    The mean of four surprises: of the level, of a spread larger and of one smaller than usual, and of the time of day.
    Each is ranked among its own history, which makes one threshold fit series of any unit and shape.
    """

    __slots__ = ("_daily", "_level", "_spread", "_surprises")

    def __init__(self) -> None:
        self._level, self._spread, self._daily = LevelShift(), SpreadShift(), DailyShift()
        self._surprises = tuple(Surprise() for _ in range(4))

    def add(self, value: float, at_s: float) -> float:
        level, wide, narrow, daily = self._surprises
        ratio = self._spread.add(value)
        return 0.25 * (
            level.add(abs(self._level.add(value)))
            + wide.add(ratio)
            + narrow.add(1.0 / max(ratio, 1e-6))
            + daily.add(abs(self._daily.add(value, at_s)))
        )


class Episodes:
    """Turns scores into alarms, one an episode: what goes on is not new, unless it grows much worse."""

    __slots__ = ("_growth", "_last", "_num", "_peak", "_quiet", "_threshold")

    def __init__(self, threshold: float, *, quiet: int = 120, growth: float = 0.8) -> None:
        self._threshold, self._quiet, self._growth = threshold, quiet, growth
        self._num = 0
        self._last = -quiet
        self._peak = 0.0

    def add(self, score: float) -> bool:
        """Whether an alarm begins with this sample: after `quiet` samples, or above the last peak by `growth`."""
        self._num += 1
        if score < self._threshold:
            return False
        if self._num - self._last >= self._quiet or score > self._peak + self._growth:
            self._last, self._peak = self._num, score
            return True
        self._peak = max(self._peak, score)
        return False
