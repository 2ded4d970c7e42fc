"""Turns a table into the streams that are watched: values, missing ones, categories, and inputs seen together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from platformops.observation.drift.records import Floats, Kind, Stream

MOST_CATEGORIES = 20
"""Of a column, each watched by itself; all others count as one."""
MOST_DIRECTIONS = 8
RIDGE = 0.01


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    categories: tuple[str, ...] | None
    """None for numbers."""


@dataclass(frozen=True, slots=True)
class Directions:
    """Principal directions of the reference: the widest, the narrowest, and the distance from its middle."""

    center: Floats
    spread: Floats
    rotation: Floats
    """A row a direction, each of unit variance."""


@dataclass(frozen=True, slots=True)
class Features:
    """How to read a table; fitted on one part of the reference, so that the other can be compared with what follows."""

    columns: tuple[Column, ...]
    directions: Directions | None

    @property
    def streams(self) -> tuple[Stream, ...]:
        """In the order of the columns of `values`."""
        inputs = [stream for column in self.columns for stream in _streams_of(column)]
        missing = [Stream(f"{c.name} missing", Kind.MISSING) for c in self.columns]
        joint = len(self.directions.rotation) if self.directions else 0
        together = [Stream(f"direction {i + 1} of all inputs", Kind.JOINT, 0.5 / joint) for i in range(joint)]
        if self.directions:
            together.append(Stream("distance from all inputs", Kind.JOINT, 0.5))
        return (*inputs, *missing, *together)

    def values(self, table: pd.DataFrame) -> Floats:
        """A row an observation and a column a stream, NaN where there is nothing to compare."""
        parts = [_values_of(column, table[column.name]) for column in self.columns]
        missing = np.stack([table[c.name].isna().to_numpy(np.float64) for c in self.columns], axis=1)
        together = [_projected(self.directions, _numbers(self.columns, table))] if self.directions else []
        return np.concatenate([*parts, missing, *together], axis=1)


def fit_features(table: pd.DataFrame) -> Features:
    """Columns of numbers as numbers, of anything else as categories."""
    columns = tuple(Column(str(name), _categories(table[name])) for name in table.columns)
    num_numbers = sum(c.categories is None for c in columns)
    directions = _fit_directions(_numbers(columns, table)) if num_numbers > 1 and len(table) > num_numbers else None
    return Features(columns, directions)


def _categories(values: pd.Series) -> tuple[str, ...] | None:
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return None
    counts = values.dropna().astype(str).value_counts()
    return tuple(sorted(str(name) for name in counts.index[:MOST_CATEGORIES]))


def _streams_of(column: Column) -> Sequence[Stream]:
    if column.categories is None:
        return [Stream(column.name, Kind.INPUT)]
    share = 1.0 / (len(column.categories) + 1)
    return [Stream(f"{column.name}={c}", Kind.INPUT, share) for c in (*column.categories, "(other)")]


def _values_of(column: Column, values: pd.Series) -> Floats:
    if column.categories is None:
        return values.to_numpy(np.float64, na_value=np.nan)[:, None]
    texts, is_there = values.astype(str).to_numpy(), values.notna().to_numpy()
    each = [texts == category for category in column.categories]
    each.append(~np.isin(texts, column.categories))
    return np.where(is_there[:, None], np.stack(each, axis=1).astype(np.float64), np.nan)


def _numbers(columns: Sequence[Column], table: pd.DataFrame) -> Floats:
    chosen = [c.name for c in columns if c.categories is None]
    return table[chosen].to_numpy(np.float64, na_value=np.nan)


def _fit_directions(values: Floats) -> Directions | None:
    center = np.nanmedian(values, axis=0)
    filled = np.where(np.isfinite(values), values, center)
    center, spread = filled.mean(axis=0), filled.std(axis=0)
    if not np.isfinite(center).all():
        return None
    spread = np.where(spread > 0, spread, 1.0)
    variances, vectors = np.linalg.eigh(np.cov(((filled - center) / spread).T))
    order = np.argsort(variances)[::-1]
    half = MOST_DIRECTIONS // 2
    chosen = order if len(order) <= MOST_DIRECTIONS else np.concatenate([order[:half], order[-half:]])
    return Directions(center, spread, (vectors[:, chosen] / np.sqrt(variances[chosen] + RIDGE)).T)


def _projected(directions: Directions, values: Floats) -> Floats:
    """A row whose inputs are in part missing is compared by its missing ones, and left out here."""
    moved = (values - directions.center) / directions.spread @ directions.rotation.T
    return np.concatenate([moved, np.square(moved).sum(axis=1, keepdims=True)], axis=1)
