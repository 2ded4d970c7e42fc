"""Predictions, and the truth where it came back, as streams: a model that errs more shows with inputs unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from platformops.observation.drift.features import MOST_CATEGORIES
from platformops.observation.drift.records import Floats, Kind, Stream


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How to read predictions and truths of one system."""

    classes: tuple[str, ...]
    """The commonest first MOST_CATEGORIES; empty where predictions are numbers."""

    @property
    def streams(self) -> tuple[Stream, ...]:
        """In the order of the columns of `values`."""
        names = (*self.classes, "(other)") if self.classes else ("value",)
        told = [
            Stream(f"{kind.value} {name}", kind, 1.0 / len(names))
            for kind in (Kind.PREDICTION, Kind.LABEL)
            for name in names
        ]
        return (*told, Stream("error of predictions", Kind.ERROR))

    def values(self, predicted: Sequence[object], truth: Sequence[object]) -> Floats:
        """A row a prediction and a column a stream; None or NaN as truth says that it is not known yet."""
        if not self.classes:
            return _numbers(predicted, truth)
        answers, truths = pd.Series(list(predicted)), pd.Series(list(truth))
        is_known = truths.notna().to_numpy()[:, None]
        texts = truths.astype(str).to_numpy(), answers.astype(str).to_numpy()
        wrong = (texts[0] != texts[1]).astype(np.float64)[:, None]
        labels, errors = _indicators(texts[0], self.classes), wrong
        told = _indicators(texts[1], self.classes)
        return np.concatenate([told, np.where(is_known, labels, np.nan), np.where(is_known, errors, np.nan)], axis=1)


def outcomes_of(predicted: Sequence[object]) -> Outcomes:
    """Numbers other than whole ones are a regression's; everything else is a class."""
    series = pd.Series(list(predicted))
    if pd.api.types.is_float_dtype(series) and not (series.dropna() % 1 == 0).all():
        return Outcomes(())
    counts = series.dropna().astype(str).value_counts()
    return Outcomes(tuple(str(name) for name in counts.index[:MOST_CATEGORIES]))


def _indicators(texts: np.ndarray, classes: Sequence[str]) -> Floats:
    each = [texts == name for name in classes]
    each.append(~np.isin(texts, classes))
    return np.stack(each, axis=1).astype(np.float64)


def _numbers(predicted: Sequence[object], truth: Sequence[object]) -> Floats:
    answers = np.array([np.nan if p is None else float(str(p)) for p in predicted])
    truths = np.array([np.nan if t is None else float(str(t)) for t in truth])
    return np.stack([answers, truths, np.abs(answers - truths)], axis=1)
