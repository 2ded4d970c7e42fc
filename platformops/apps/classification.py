"""What a classifier's answers are worth: figures, their bootstrap intervals, and the difference between two models.

Every figure is a function of column totals over rows, so that the figure itself (each row once) and its bootstrap
replicates (each row as often as it was drawn) are the same code:

    Efron 1979, Annals of Statistics 7(1)              the bootstrap: draw n of n rows with replacement
    Efron and Tibshirani 1993, ch. 13                  percentile intervals; ch. 16: paired and two-sample differences
    Naeini et al. 2015 (AAAI); Guo et al. 2017 (ICML)  expected calibration error over bins of confidence
    Nixon et al. 2019 (CVPR workshops)                 bins of equal mass, which rare confidences do not make noisy
    Brier 1950, Monthly Weather Review 78(1)           squared distance of probabilities, from 0 to 2
    Good 1952, J. Royal Statistical Society B 14(1)    logarithmic loss

Figures that are not defined are left out rather than made up. Recall is averaged over the classes that have test rows
(as balanced accuracy is); precision and F1 over the classes that have test rows or were answered, and are 0 for a class
that has rows and was never answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from platformops.apps.contract import Outputs
from platformops.errors import DataRefused
from platformops.store.records import Json, JsonObject

Floats = NDArray[np.float64]
Bins = Literal["mass", "width"]

REPLICATES = 2000  # the end of a 95 % interval then moves by less than a tenth of its width from seed to seed
BINS = 15  # the number in Guo et al., so that figures can be compared with published ones
CONFIDENCE = 0.95
CELLS_AT_ONCE = 4_000_000  # rows x replicates in memory: 32 MB
SUM_TOLERANCE = 1e-3  # half precision sums of a thousand classes stay within it; logits and percentages do not


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model answered for test rows: `ids` (rows,), `labels` (rows,) and `probabilities` (rows, classes)."""

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    probabilities: Outputs
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure, or a difference of two, with its bootstrap replicates (replicates,)."""

    value: float
    replicates: Floats
    paired: bool = False

    def bound(self, side: Literal["lower", "upper"], confidence: float) -> float:
        """What the true figure is not below (`lower`) or above (`upper`), at the one-sided `confidence`."""
        return float(np.quantile(self.replicates, 1 - confidence if side == "lower" else confidence))


@dataclass(frozen=True, slots=True)
class _Totals:
    """Column totals of resampled rows; `replicates` first in every shape."""

    rows: int
    right: Floats
    log_loss: Floats
    brier: Floats
    gaps: Floats
    """(replicates, bins): hits minus confidence."""
    hits: Floats
    """(replicates, classes), as are `support` and `answered`."""
    support: Floats
    answered: Floats


def checked(outputs: Outputs, labels: NDArray[np.int64], classes: Sequence[str]) -> Floats:
    """`outputs` as float64; raises DataRefused for what is not one probability vector a row."""
    if outputs.ndim != 2 or outputs.shape != (len(labels), len(classes)):
        wanted = (len(labels), len(classes))
        raise DataRefused(f"outputs have shape {outputs.shape}, not {wanted} (rows, classes)")
    if not len(labels):
        raise DataRefused("there are no rows to score", remedy="give the test split a share, or a source in data.test")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataRefused(f"labels run from {labels.min()} to {labels.max()} with {len(classes)} classes")
    values = outputs.astype(np.float64)
    wrong = (
        ~np.isfinite(values).all(axis=1) | (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > SUM_TOLERANCE)
    )
    if wrong.any():
        row = int(np.argmax(wrong))
        shown = np.array2string(values[row, :5], precision=3)
        raise DataRefused(
            f"{int(wrong.sum())} of {len(values)} outputs are not probabilities, the first in row {row}: {shown}",
            remedy="the model's training may have diverged: look for nan in its history",
        )
    return values


def _bin_of(confidence: Floats, kind: Bins) -> NDArray[np.int64]:
    """The bin of each row, from 0; equal confidences share a bin."""
    edges = np.linspace(0, 1, BINS + 1)
    if kind == "mass":
        edges = np.quantile(confidence, edges)
    return np.searchsorted(edges[1:-1], confidence, side="left")


def _one_hot(columns: NDArray[np.int64], values: Floats, width: int) -> sparse.csr_array:
    rows = np.arange(len(columns) + 1)
    return sparse.csr_array((values, columns, rows), shape=(len(columns), width))


def _columns(values: Floats, labels: NDArray[np.int64], kind: Bins) -> sparse.csr_array:
    """(rows, 3 + BINS + 3 x classes), sparse: what one row adds to each total."""
    rows, classes = values.shape
    answered, confidence = values.argmax(axis=1), values.max(axis=1)
    right, ones = (answered == labels).astype(np.float64), np.ones(rows)
    eps = float(np.finfo(np.float32).eps)
    log_loss = -np.log(np.clip(values[np.arange(rows), labels], eps, 1 - eps))
    brier = (values**2).sum(axis=1) - 2 * values[np.arange(rows), labels] + 1
    return sparse.hstack(
        [
            sparse.csr_array(np.stack([right, log_loss, brier], axis=1)),
            _one_hot(_bin_of(confidence, kind), right - confidence, BINS),
            _one_hot(answered, right, classes),
            _one_hot(labels, ones, classes),
            _one_hot(answered, ones, classes),
        ],
        format="csr",
    )


def _totals(sums: Floats, rows: int, classes: int) -> _Totals:
    at = np.cumsum([3, BINS, classes, classes])
    head, gaps, hits, support, answered = np.split(sums, at, axis=1)
    return _Totals(rows, head[:, 0], head[:, 1], head[:, 2], gaps, hits, support, answered)


def _resampled(columns: sparse.csr_array, generator: np.random.Generator, replicates: int) -> Floats:
    """(replicates, columns): totals over `rows` draws with replacement; the draws' counts are multinomial."""
    rows, out = columns.shape[0], []
    at_once, transposed = max(1, CELLS_AT_ONCE // rows), columns.T.tocsr()
    for start in range(0, replicates, at_once):
        size = min(at_once, replicates - start)
        cells = generator.integers(0, rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        counts = np.bincount(cells.ravel(), minlength=size * rows).reshape(size, rows)
        out.append((transposed @ counts.T.astype(np.float64)).T)
    return np.concatenate(out)


def _once(columns: sparse.csr_array) -> Floats:
    """(1, columns): totals with each row once."""
    return np.asarray(columns.sum(axis=0), dtype=np.float64).reshape(1, -1)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, and nan where `whole` is 0."""
    ratio: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio


def _mean_defined(values: Floats, defined: NDArray[np.bool_]) -> Floats:
    mean: Floats = np.where(defined, np.nan_to_num(values), 0.0).sum(axis=1) / defined.sum(axis=1)
    return mean


def _figures(totals: _Totals) -> dict[str, Floats]:
    """Each figure, shape (replicates,)."""
    seen = (totals.support > 0) | (totals.answered > 0)
    return {
        "accuracy": totals.right / totals.rows,
        "precision_macro": _mean_defined(_ratio(totals.hits, totals.answered), seen),
        "recall_macro": _mean_defined(_ratio(totals.hits, totals.support), totals.support > 0),
        "f1_macro": _mean_defined(_ratio(2 * totals.hits, totals.support + totals.answered), seen),
        "calibration_error": np.abs(totals.gaps).sum(axis=1) / totals.rows,
        "log_loss": totals.log_loss / totals.rows,
        "brier": totals.brier / totals.rows,
    }


def _class_figures(totals: _Totals) -> dict[str, Floats]:
    """Each figure by class, shape (replicates, classes), nan where it is not defined."""
    precision = _ratio(totals.hits, totals.answered)
    return {
        "precision": np.where(totals.support > 0, np.nan_to_num(precision), precision),
        "recall": _ratio(totals.hits, totals.support),
        "f1": _ratio(2 * totals.hits, totals.support + totals.answered),
    }


def _interval(replicates: Floats) -> Json:
    """[low, high] of the percentile interval; None when no replicate is defined."""
    defined = replicates[np.isfinite(replicates)]
    if not len(defined):
        return None
    tail = (1 - CONFIDENCE) / 2
    return [float(v) for v in np.quantile(defined, [tail, 1 - tail])]


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _per_class(point: _Totals, replicates: _Totals, classes: Sequence[str]) -> JsonObject:
    at, spread = _class_figures(point), _class_figures(replicates)
    return {
        name: {
            "rows": int(point.support[0, c]),
            "answered": int(point.answered[0, c]),
            **{metric: _defined(at[metric][0, c]) for metric in at},
            "intervals": {metric: _interval(spread[metric][:, c]) for metric in at},
        }
        for c, name in enumerate(classes)
    }


def reliability(values: Floats, labels: NDArray[np.int64], *, bins: Bins = "mass") -> list[Json]:
    """Per bin that has rows, in rising confidence: `{"confidence", "accuracy", "rows"}`, for a reliability diagram."""
    confidence, right = values.max(axis=1), values.argmax(axis=1) == labels
    bin_of = _bin_of(confidence, bins)
    return [
        {"confidence": float(confidence[m].mean()), "accuracy": float(right[m].mean()), "rows": int(m.sum())}
        for m in (bin_of == b for b in np.unique(bin_of))
    ]


def score(outputs: Outputs, labels: NDArray[np.int64], classes: Sequence[str], *, bins: Bins = "mass") -> JsonObject:
    """The content of `metrics.json`: flat figures, `intervals` at 95 %, `per_class`, `confusion` (truth, answer),
    `reliability`, `classes` and `rows`. The same rows in the same order give the same bytes. Raises DataRefused."""
    values = checked(outputs, labels, classes)
    columns, shape = _columns(values, labels, bins), (len(labels), len(classes))
    point = _totals(_once(columns), *shape)
    replicates = _totals(_resampled(columns, np.random.default_rng(0), REPLICATES), *shape)
    confusion = np.zeros((shape[1], shape[1]), dtype=np.int64)
    np.add.at(confusion, (labels, values.argmax(axis=1)), 1)
    return {
        **{metric: float(v[0]) for metric, v in _figures(point).items()},
        "intervals": {metric: _interval(v) for metric, v in _figures(replicates).items()},
        "per_class": _per_class(point, replicates, classes),
        "confusion": confusion.tolist(),
        "reliability": reliability(values, labels, bins=bins),
        "classes": list(classes),
        "rows": shape[0],
    }


def are_paired(one: Predictions, other: Predictions) -> bool:
    """Whether both answered exactly the same rows with the same truth, in any order."""
    if one.classes != other.classes or len(one.ids) != len(other.ids):
        return False
    a, b = np.argsort(one.ids), np.argsort(other.ids)
    ids, unique = one.ids[a], len(np.unique(one.ids)) == len(one.ids)
    return unique and bool((ids == other.ids[b]).all() and (one.labels[a] == other.labels[b]).all())


def figures(
    predictions: Predictions, *, generator: np.random.Generator, replicates: int = REPLICATES
) -> Mapping[str, Spread]:
    """Each figure of one model. Raises DataRefused."""
    columns, shape = _in_order(predictions), predictions.probabilities.shape
    point = _figures(_totals(_once(columns), *shape))
    spread = _figures(_totals(_resampled(columns, generator, replicates), *shape))
    return {metric: Spread(float(point[metric][0]), spread[metric]) for metric in point}


def differences(
    candidate: Predictions, champion: Predictions, *, generator: np.random.Generator, replicates: int = REPLICATES
) -> Mapping[str, Spread]:
    """Candidate minus champion in each figure: rows are drawn together where both answered the same ones (which makes
    the difference far less noisy than either figure), and independently otherwise. Raises DataRefused."""
    if not are_paired(candidate, champion):
        one = figures(candidate, generator=generator, replicates=replicates)
        other = figures(champion, generator=generator, replicates=replicates)
        return {m: Spread(one[m].value - other[m].value, one[m].replicates - other[m].replicates) for m in one}
    sides, shape = [_in_order(p) for p in (candidate, champion)], candidate.probabilities.shape
    drawn = _resampled(sparse.hstack(sides, format="csr"), generator, replicates)
    point, other_point = (_figures(_totals(_once(side), *shape)) for side in sides)
    spread, other_spread = (_figures(_totals(sums, *shape)) for sums in np.split(drawn, 2, axis=1))
    return {m: Spread(float(point[m][0] - other_point[m][0]), spread[m] - other_spread[m], paired=True) for m in point}


def _in_order(predictions: Predictions) -> sparse.csr_array:
    """The rows' columns in the order of their ids, so that paired models are drawn row by row."""
    order = np.argsort(predictions.ids, kind="stable")
    labels, outputs = predictions.labels[order], predictions.probabilities[order]
    return _columns(checked(outputs, labels, predictions.classes), labels, "mass")
