"""Which rows to train on after a change: everything, the newest, or what came since; settled by the newest labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Weights = NDArray[np.float64]
SHARES = (0.5, 0.25, 0.1)
HALVINGS = (4.0, 16.0)
FEWEST = 100
"""Rows that a window needs to be tried."""


@dataclass(frozen=True, slots=True)
class Window:
    """Rows, oldest first, and how much each counts."""

    name: str
    rows: Rows
    weights: Weights


def windows(num_rows: int, since_row: int, *, fewest: int = FEWEST) -> tuple[Window, ...]:
    """All windows over rows 0 to `num_rows`, of which those from `since_row` on came after the change; none of less
    than `fewest` rows."""
    every = np.arange(num_rows)
    spans = [("all rows", 0), ("rows since the change", since_row)]
    spans += [(f"the newest {share:.0%}", round(num_rows * (1 - share))) for share in SHARES]
    found = [Window(name, every[start:], np.ones(num_rows - start)) for name, start in spans]
    age = (num_rows - 1 - every) / max(1, num_rows)
    found += [Window(f"all rows, halved {n:g} times", every, 0.5 ** (n * age)) for n in HALVINGS]
    return tuple(w for w in found if len(w.rows) >= min(fewest, num_rows))


def choose(
    num_rows: int,
    since_row: int,
    *,
    newest: int,
    errors: Callable[[Window, Rows], Sequence[float]],
    fewest: int = FEWEST,
) -> tuple[Window, dict[str, float]]:
    """The window of the least error on the `newest` labelled rows, which none of them is fitted to while it is tried,
    grown to take them in; and the mean error of each by name.

    `errors` fits on a window and answers one error a row it is given. Of windows that nobody can tell apart the one
    with more data is taken: its standard error decides (Breiman and others 1984, the one-standard-error rule).
    """
    fit_rows = num_rows - newest
    held = np.arange(fit_rows, num_rows)
    spans = windows(fit_rows, min(since_row, fit_rows - 1), fewest=fewest)
    tried = {w.name: (w, np.asarray(errors(w, held), float)) for w in spans}
    means = {name: float(e.mean()) for name, (_, e) in tried.items()}
    best = min(means, key=lambda name: means[name])
    name = max(
        (n for n in tried if _is_as_good(tried[n][1], tried[best][1])), key=lambda n: float(tried[n][0].weights.sum())
    )
    grown = {w.name: w for w in windows(num_rows, since_row, fewest=fewest)}
    return grown.get(name, grown["all rows"]), means


def _is_as_good(errors: Weights, best: Weights) -> bool:
    gaps = errors - best
    return bool(gaps.mean() <= gaps.std() / np.sqrt(len(gaps)))
