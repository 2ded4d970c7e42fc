"""The errors of Titan's GPUs (Ostrouchov et al., SC20), month by month."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.failure_cases import FailureSet, concatenated
from platformops.health.hazard import (
    DAY_S,
    NodeHistory,
    class_prior,
    expected_failures,
    failure_probability,
    watched,
)
from platformops.health.ratios import Array


def load_titan(folder: Path) -> FailureSet:
    """Titan's GPUs, each every 30 days: a double-bit error or off the bus within 30? Reference: the fleet's last 30."""
    table = pd.read_parquet(folder / "titan_gpu_life.parquet")
    start = pd.Timestamp("2013-11-01")
    serial = pd.factorize(table["SN"])[0]
    begin, end = (_days(table[column] - start) for column in ("insert", "remove"))
    event = table["event"].astype(str).to_numpy()
    happened = np.flatnonzero((event == "DBE") | (event == "OTB"))
    happened = happened[np.argsort(end[happened], kind="stable")]
    events = _Events(
        end[happened], serial[happened], event[happened] == "OTB", pd.factorize(table["location"])[0][happened]
    )
    stays = np.flatnonzero(table["insert"].notna().to_numpy())
    begins: dict[int, Array] = defaultdict(lambda: np.empty(0))
    for row in stays[np.argsort(begin[stays], kind="stable")]:
        begins[int(serial[row])] = np.append(begins[int(serial[row])], begin[row])
    rows = _TitanRows(table, serial, begin, begins, pd.factorize(table["location"])[0])
    histories: dict[int, NodeHistory] = {}
    parts = []
    for landmark in np.arange(90.0, float(np.nanmax(end)) - 30.0 + 1e-9, 30.0):
        present = stays[(begin[stays] <= landmark) & (end[stays] > landmark)]
        parts.append(_titan_landmark(float(landmark), present, rows, events, histories))
    return concatenated(parts)


@dataclass(frozen=True, slots=True)
class _Events:
    """Ordered by day."""

    day: Array
    serial: NDArray[np.int64]
    off_bus: NDArray[np.bool_]
    location: NDArray[np.int64]

    def between(self, begin: float, end: float) -> slice:
        return slice(int(np.searchsorted(self.day, begin, "right")), int(np.searchsorted(self.day, end, "right")))


@dataclass(frozen=True, slots=True)
class _TitanRows:
    table: pd.DataFrame
    serial: NDArray[np.int64]
    begin: Array
    begins: Mapping[int, Array]
    location: NDArray[np.int64]


def _titan_landmark(
    landmark: float, present: NDArray[np.int64], rows: _TitanRows, events: _Events, histories: dict[int, NodeHistory]
) -> FailureSet:
    serials = rows.serial[present]
    soon = events.between(landmark, landmark + 30.0)
    past = events.between(-np.inf, landmark)
    month = events.between(landmark - 30.0, landmark)
    size = len(present)
    largest = int(rows.serial.max()) + 1
    errors = np.bincount(events.serial[past], minlength=largest)[serials].astype(np.float64)
    last = np.full(largest, np.nan)
    last[events.serial[past]] = events.day[past]
    age = np.asarray([landmark - rows.begins[int(s)][0] for s in serials])
    batch = (rows.table["batch"].to_numpy()[present] == "new").astype(np.float64)
    columns = {
        "days_since": landmark - last[serials],
        "errors": errors,
        "off_bus": np.bincount(events.serial[past], events.off_bus[past], largest)[serials],
        "errors_here": np.bincount(events.location[past], minlength=int(rows.location.max()) + 1)[
            rows.location[present]
        ].astype(np.float64),
        "moves": np.asarray([np.searchsorted(rows.begins[int(s)], landmark, "right") - 1.0 for s in serials]),
        "age_days": age,
        "stay_days": landmark - rows.begin[present],
        "batch": batch,
        "fleet_30d": np.full(size, 1000.0 * len(events.day[month]) / size),
        **{
            name: rows.table[name].to_numpy(dtype=np.float64)[present]
            for name in ("cage", "slot", "node", "col", "row")
        },
    }
    failed = np.isin(serials, events.serial[soon]).astype(np.float64)
    return FailureSet(
        failed,
        columns,
        np.where(batch > 0, "new batch", "old batch"),
        serials,
        _titan_priors(landmark, serials, batch, age, events, histories),
        np.full(size, max(len(np.unique(events.serial[month])) / size, 1e-5)),
        np.full(size, landmark),
    )


def _titan_priors(
    landmark: float,
    serials: NDArray[np.int64],
    batch: Array,
    age: Array,
    events: _Events,
    histories: dict[int, NodeHistory],
) -> Array:
    recent: dict[int, list[float]] = defaultdict(list)
    for i in range(*events.between(landmark - 30.0, landmark).indices(len(events.day))):
        recent[int(events.serial[i])].append(float(events.day[i]) * DAY_S)
    now = landmark * DAY_S
    for gpu, days in zip(serials, age, strict=True):
        history = histories.get(int(gpu)) or NodeHistory(now - min(float(days), 30.0) * DAY_S)
        for t in recent.get(int(gpu), ()):
            history = watched(history, t, failures=1)
        histories[int(gpu)] = watched(history, now)
    own = [histories[int(s)] for s in serials]
    result = np.empty(len(serials))
    for code in (0.0, 1.0):
        chosen = np.flatnonzero(batch == code)
        prior = class_prior([own[i] for i in chosen])
        expected = [expected_failures(own[i], prior, now, 30.0 * DAY_S) for i in chosen]
        result[chosen] = [failure_probability(count) for count in expected]
    return result


def _days(since: pd.Series[pd.Timedelta]) -> Array:
    days: Array = np.asarray(since.dt.total_seconds(), dtype=np.float64) / DAY_S
    return days
