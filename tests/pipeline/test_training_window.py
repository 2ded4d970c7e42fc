"""The training window: the newest labels settle it, and of equal ones the one with more data."""

import numpy as np

from platformops.pipeline.training_window import choose, windows


def mean_model(y):
    def errors(window, rows):
        fitted = np.average(y[window.rows], weights=window.weights)
        return list(np.abs(y[rows] - fitted))

    return errors


def test_after_a_jump_the_rows_since_it_are_chosen():
    luck = np.random.default_rng(1)
    y = np.where(np.arange(2000) < 1500, 0.0, 5.0) + 0.1 * luck.normal(size=2000)
    window, means = choose(2000, 1500, newest=100, errors=mean_model(y))
    assert window.rows[0] >= 1500
    assert window.rows[-1] == 1999
    assert means["rows since the change"] < means["all rows"]


def test_without_a_change_everything_is_used():
    y = np.random.default_rng(2).normal(size=2000)
    window, _ = choose(2000, 1500, newest=200, errors=mean_model(y))
    assert window.name == "all rows"
    assert len(window.rows) == 2000


def test_a_window_of_too_few_rows_is_not_tried():
    assert "rows since the change" not in {w.name for w in windows(1000, 950)}
    assert windows(30, 10)[0].name == "all rows"


def test_weights_halve_with_age():
    halved = next(w for w in windows(1000, 500) if w.name == "all rows, halved 4 times")
    assert halved.weights[-1] == 1.0
    assert halved.weights[0] == np.float64(0.5 ** (4 * 0.999))
