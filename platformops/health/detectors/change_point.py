"""When a series changed its regime: Bayesian online change points, for step times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

Floats = NDArray[np.float64]


class ChangePoints:
    """Probability of each run length, the number of values of the present regime; truncated, so of constant memory.

    Adams and MacKay, "Bayesian online changepoint detection" (arXiv 0710.3742), algorithm 1, with the change before the
    value that shows it, and normal values of unknown mean and variance: the predictive is Student's t of the
    normal-gamma posterior (Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution", section 3).
    Values should be of order one: divide step times by their usual length.
    """

    def __init__(self, *, mean_run: float = 250.0, longest: int = 200, spread: float = 0.1) -> None:
        """`mean_run` values between changes; `spread` is the standard deviation expected of a new regime."""
        self._log_hazard, self._log_stay = float(np.log(1.0 / mean_run)), float(np.log1p(-1.0 / mean_run))
        self._longest = longest
        # mean 1 known as if from a hundredth of a value: a new regime may be anywhere
        self._prior: Floats = np.array([[1.0], [0.01], [1.0], [spread * spread]])
        self._state: Floats = np.empty((4, 0))
        """Rows mean, kappa, alpha, beta of the normal-gamma; column r is of a run of r + 1 values."""
        self._log_runs: Floats = np.empty(0)

    def add(self, value: float) -> float:
        """Take in a value; the probability that the present regime began within the last three values."""
        anew = _log_predictive(self._prior, value) + (self._log_hazard if len(self._log_runs) else 0.0)
        grown = self._log_runs + _log_predictive(self._state, value) + self._log_stay
        joint = np.concatenate([anew, grown])
        self._state = _updated(np.concatenate([self._prior, self._state], axis=1), value)
        if len(joint) > self._longest:
            joint[-2] = np.logaddexp(joint[-2], joint[-1])
            joint, self._state = joint[:-1], self._state[:, :-1]
        self._log_runs = joint - logsumexp(joint)
        return float(np.exp(self._log_runs[:3]).sum()) if len(self._log_runs) > 3 else 0.0

    @property
    def run_length(self) -> int:
        """The likeliest number of values of the present regime, at most `longest`; 0 before the first."""
        return int(np.argmax(self._log_runs)) + 1 if len(self._log_runs) else 0

    @property
    def mean(self) -> float:
        """Of the present regime, at its likeliest run length; 1.0 before the first value."""
        return float(self._state[0, self.run_length - 1]) if self.run_length else 1.0


def _log_predictive(state: Floats, value: float) -> Floats:
    """log density of Student's t with 2 alpha degrees of freedom, one a column."""
    mean, kappa, alpha, beta = state
    freedom = 2.0 * alpha
    scale2 = beta * (kappa + 1.0) / (alpha * kappa)
    log_norm = gammaln(alpha + 0.5) - gammaln(alpha) - 0.5 * np.log(np.pi * freedom * scale2)
    return np.asarray(log_norm - (alpha + 0.5) * np.log1p((value - mean) ** 2 / (freedom * scale2)))


def _updated(state: Floats, value: float) -> Floats:
    mean, kappa, alpha, beta = state
    return np.stack(
        [
            (kappa * mean + value) / (kappa + 1.0),
            kappa + 1.0,
            alpha + 0.5,
            beta + kappa * (value - mean) ** 2 / (2.0 * (kappa + 1.0)),
        ]
    )
