"""Tests that hold however often one looks: e-processes for one stream of yes-or-no observations, and their bounds.

An e-process starts at 1, is never expected to grow while the null hypothesis is true, and so passes 1/alpha with
probability at most alpha at any time, whenever one stops or looks (Ville 1939; Ramdas, Gruenwald, Vovk and Shafer
2023, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38). Everything here is in
natural logarithms, and a function of counts alone: the order within a stream does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

EFFECTS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Differences of log odds that are bet on, with equal stakes: an unknown effect costs at most ln 7 and one between two
of them about a tenth of its growth."""
LEAK_RATES = (0.9, 0.3, 0.1, 0.03)
"""Shares of observations that set a record, which are bet on with equal stakes."""
BISECTIONS = 26
STAKES = tuple(0.98 * 0.5**k for k in range(9))
"""Shares of the capital that are bet on a difference of paired outcomes."""


def above(failures: float, trials: float, limit: float) -> float:
    """Log evidence against "at most `limit` of the trials fail".

    A mixture of likelihood ratios against the boundary; each is a test martingale at the boundary and a
    supermartingale below it (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting",
    JRSS B 86, for Bernoulli streams). Trials may depend on the past as long as each fails with at most `limit`.
    """
    return _tilted(failures, trials, limit, 1.0)


def below(failures: float, trials: float, limit: float) -> float:
    """Log evidence against "at least `limit` of the trials fail"."""
    return _tilted(failures, trials, limit, -1.0)


def upper_bound(failures: float, trials: float, alpha: float) -> float:
    """Above the failure probability at all times together, except with probability `alpha`."""
    if trials <= 0:
        return 1.0
    wanted = math.log(1 / alpha)
    return _bisect(failures / trials, 1.0, lambda p: below(failures, trials, p) < wanted)


def lower_bound(failures: float, trials: float, alpha: float) -> float:
    """Below the failure probability at all times together, except with probability `alpha`."""
    return 1.0 - upper_bound(trials - failures, trials, alpha)


def mean_above(minus: int, zero: int, plus: int, limit: float) -> float:
    """Log evidence against "the mean of observations in -1, 0 and 1 is at most `limit`".

    The capital of a gambler who spreads it over fixed stakes and bets each on a higher mean: the hedged capital of
    Waudby-Smith and Ramdas (2024, section 4), whose mixture over stakes depends on the three counts only. For paired
    differences: it grows with the pairs that differ, and is not diluted by those that agree.
    """
    largest = 1.0 / (1.0 + limit)
    return mixture(
        [
            minus * math.log1p(-s * largest * (1 + limit))
            + zero * math.log1p(-s * largest * limit)
            + plus * math.log1p(s * largest * (1 - limit))
            for s in STAKES
        ]
    )


def mean_upper_bound(minus: int, zero: int, plus: int, alpha: float) -> float:
    """Above the mean of observations in -1, 0 and 1 at all times together, except with probability `alpha`."""
    total = minus + zero + plus
    if plus == total:
        return 1.0
    wanted = math.log(1 / alpha)
    return _bisect((plus - minus) / total, 1.0, lambda m: mean_above(plus, zero, minus, -m) < wanted)


def quantile_bounds(counts: Mapping[int, int], q: float, alpha: float) -> tuple[int | None, int | None]:
    """The lowest and the highest bucket that may hold the `q` quantile, at all times together except with `alpha`.

    Whether an observation lies below a fixed boundary is a Bernoulli trial, and its confidence sequence says which
    boundaries can be the quantile (Howard and Ramdas 2022, "Sequential estimation of quantiles", Bernoulli 28).
    None where the counts do not bound that side.
    """
    total, wanted = sum(counts.values()), math.log(2 / alpha)
    low, high, seen = None, None, 0
    for bucket in sorted(counts):
        if below(seen, total, q) >= wanted:
            low = bucket
        seen += counts[bucket]
        if high is None and above(seen, total, q) >= wanted:
            high = bucket
    return low, high


def record_log_odds(index: int, *, is_record: bool) -> tuple[float, ...]:
    """What observation `index` (from 1) of a level adds to the log evidence that it rises without end, by leak rate.

    In an exchangeable sequence observation `i` is a record with probability 1/i, independently of the others (Renyi
    1962, "Theorie des elements saillants d'une suite d'observations"), while a leak goes on setting them. The null is
    three times as generous, for allocators that take a while to settle; a rate that it allows is not bet on yet.
    """
    chance = min(0.5, 3.0 / index)
    rates = (max(rate, chance) for rate in LEAK_RATES)
    return tuple(math.log(q / chance if is_record else (1 - q) / (1 - chance)) for q in rates)


def mixture(logs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Logarithm of the weighted mean of e-values, given by their logarithms; equal weights without any.

    A mean of e-values is an e-value whatever their dependence, and never weaker than Bonferroni's correction (Vovk and
    Wang 2021, "E-values: calibration, combination and applications", Annals of Statistics 49).
    """
    shares = weights or [1.0 / len(logs)] * len(logs)
    largest = max(logs)
    if math.isinf(largest):
        return largest
    return largest + math.log(sum(w * math.exp(x - largest) for w, x in zip(shares, logs, strict=True)))


def _tilted(failures: float, trials: float, limit: float, side: float) -> float:
    """Mixture of log likelihood ratios of the odds `exp(side * effect)` times those of `limit`."""
    if trials <= 0:
        return 0.0
    if limit <= 0 or limit >= 1:
        is_refuted = failures > 0 if limit <= 0 else failures < trials
        return math.inf if is_refuted and (side > 0) is (limit <= 0) else 0.0
    # With the odds tilted by t, the likelihood of each trial changes by exp(t * failed) / (1 - p + p exp(t)).
    return mixture([side * d * failures - trials * math.log1p(limit * math.expm1(side * d)) for d in EFFECTS])


def _bisect(low: float, high: float, is_inside: Callable[[float], bool]) -> float:
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_inside(middle) else (low, middle)
    return high
