"""Values that are far from their own recent past: a robust EWMA chart."""

from __future__ import annotations

from math import log, sqrt

from scipy.special import log_ndtr

from platformops.health.records import Alarm, Signal

LN10 = log(10.0)
CLIP = 3.0
SPREAD_OF_CLIPPED = 0.9732  # variance of a standard normal clipped at 3, so that clipping does not shrink the scale


class RobustEwma:
    """Mean and variance of one series, exponentially weighted, each new residual clipped at three spreads.

    Gelper, Fried and Croux, "Robust forecasting with exponential and Holt-Winters smoothing", Journal of Forecasting 29
    (2010): values are pre-cleaned with Huber's psi before they enter level and scale, so an outlier is told as one and
    does not hide the next.
    """

    __slots__ = ("_count", "_mean", "_variance", "_warm", "_weight")

    def __init__(self, *, weight: float = 0.05, warm: int = 10) -> None:
        self._weight, self._warm = weight, warm
        self._count, self._mean, self._variance = 0, 0.0, 0.0

    def add(self, signal: Signal) -> Alarm | None:
        """How rare the value is for a normal series; None while fewer than `warm` values were seen."""
        expected, spread = self._mean, sqrt(self._variance)
        floor = 1e-3 * abs(expected) + 1e-12
        self._learn(signal.value, max(spread, floor))
        if self._count <= self._warm:
            return None
        z = (signal.value - expected) / max(spread, floor)
        return Alarm(
            subject=signal.subject,
            detector="own past",
            value=signal.value,
            expected=expected,
            surprise=two_sided(z),
            at_s=signal.at_s,
            reason=f"{signal.source} {signal.value:.4g} is {z:+.1f} spreads from its usual {expected:.4g}",
        )

    def _learn(self, value: float, spread: float) -> None:
        self._count += 1
        weight = max(self._weight, 1.0 / self._count)
        error = value - self._mean
        if self._count > self._warm:
            error = max(-CLIP * spread, min(CLIP * spread, error))
        scale = SPREAD_OF_CLIPPED if self._count > self._warm else 1.0
        self._mean += weight * error
        self._variance = (1.0 - weight) * (self._variance + weight * error * error / scale)


def two_sided(z: float) -> float:
    """-log10 of the normal probability of being as far out on either side."""
    return max(0.0, -(float(log_ndtr(-abs(z))) + log(2.0)) / LN10)
