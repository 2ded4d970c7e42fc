"""Counts that are too high for their rate: errors, retries, corrected memory errors, lines of a log template."""

from __future__ import annotations

from math import log

from scipy.special import betainc, betaln

from platformops.health.records import Alarm

LN10 = log(10.0)


class GammaPoissonRate:
    """Rate of one kind of event, learnt with forgetting, and the tail probability of each new count.

    With rate ~ Gamma(a, b) the count in an exposure e is negative binomial, P(K >= k) = I_{e/(b+e)}(k, a), the
    regularised incomplete beta function (Gelman et al., Bayesian Data Analysis, section 2.6). Old counts are discounted
    by half every `half_life` of exposure, as in West and Harrison's power discounting.
    """

    __slots__ = ("_counts", "_exposure", "_half_life", "_prior_counts", "_prior_exposure")

    def __init__(self, *, prior_counts: float, prior_exposure: float, half_life: float) -> None:
        """The prior is worth `prior_counts` events seen in `prior_exposure`; take the fleet's."""
        self._prior_counts, self._prior_exposure, self._half_life = prior_counts, prior_exposure, half_life
        self._counts, self._exposure = 0.0, 0.0

    @property
    def rate(self) -> float:
        """Posterior mean, in events per unit of exposure."""
        return (self._prior_counts + self._counts) / (self._prior_exposure + self._exposure)

    def add(self, count: int, exposure: float) -> float:
        """-log10 P(as many or more | what was known), then learns from them."""
        surprise = self._surprise(count, exposure)
        kept = 0.5 ** (exposure / self._half_life)
        self._counts = kept * self._counts + count
        self._exposure = kept * self._exposure + exposure
        return surprise

    def alarm(self, subject: str, source: str, count: int, exposure: float, *, at_s: float) -> Alarm:
        expected = self.rate * exposure
        surprise = self.add(count, exposure)
        reason = f"{count} {source} where {expected:.3g} were expected: once in {10**surprise:.3g}"
        return Alarm(subject, "rate", float(count), expected, surprise, at_s, reason)

    def _surprise(self, count: int, exposure: float) -> float:
        if count <= 0:
            return 0.0
        shape = self._prior_counts + self._counts
        share = exposure / (self._prior_exposure + self._exposure + exposure)
        tail = float(betainc(count, shape, share))
        if tail > 1e-280:
            return -log(tail) / LN10
        # The leading term of the series: x^k (1-x)^a / (k B(k, a)); exact enough where the sum underflows.
        leading = count * log(share) + shape * log(1.0 - share) - log(count) - float(betaln(count, shape))
        return -leading / LN10
