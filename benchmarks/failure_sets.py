"""Recorded failures as cases to predict: what was known at fixed landmarks, and whether the node failed soon after.

Every column is computed from what lies before its landmark. Landmarks do not depend on outcomes (HEALTH data are partly
in start-stop form, where rows do).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from platformops.health.hazard import (
    DAY_S,
    HazardPrior,
    NodeHistory,
    class_prior,
    expected_failures,
    failure_probability,
    fit_prior,
    watched,
)
from platformops.health.learning import Cases, LearningParams
from platformops.health.ratios import Array, summed
from platformops.health.risk import Signal

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class FailureSet:
    """Cases of one source, each array of shape (rows,)."""

    failed: Array
    columns: Mapping[str, Array]
    node_classes: NDArray[np.str_]
    groups: NDArray[np.int64]
    """Cases of one system, GPU, disk or machine stay on one side of a cross-validation."""
    priors: Array | None = None
    """From the nodes' own histories; None where the class's rate in the fitted cases is the prior."""
    reference: Array | None = None
    """The forecast to beat; None for the base rate of the cases themselves."""
    days: Array | None = None
    """Calendar time, where there is one: outcomes older than the horizon may recalibrate."""
    exposures: Array | None = None

    def cases(self, priors: Array) -> Cases:
        return Cases(self.failed, priors, self.columns)


@dataclass(frozen=True, slots=True)
class Source:
    load: Callable[[Path], FailureSet]
    signals: tuple[Signal, ...]
    horizon_s: float
    params: LearningParams = field(default_factory=LearningParams)


def frozen_priors(fitted: FailureSet, other: FailureSet) -> Array:
    """The prior of each case of `other` from the rate of its class among the fitted cases, Gamma-Poisson pooled."""
    if other.priors is not None:
        return other.priors
    names, at = np.unique(fitted.node_classes, return_inverse=True)
    counts = summed(at, fitted.failed, len(names))
    sizes = np.bincount(at, minlength=len(names)).astype(np.float64)
    mean = float(fitted.failed.mean())
    pooled = fit_prior(counts, sizes, fallback=HazardPrior(1.0, 1.0 / mean), half_life_s=np.inf)
    prior = HazardPrior(min(pooled.shape, 5.0), min(pooled.shape, 5.0) / mean)
    rates = dict(zip(names, (prior.shape + counts) / (prior.exposure_s + sizes), strict=True))
    return np.asarray([rates.get(name, mean) for name in other.node_classes])


def load_lanl(folder: Path) -> FailureSet:
    """LANL systems, each node each week: does it fail within 7 days? Reference: the system's rate so far."""
    table = pd.read_parquet(folder / "lanl_node_failures.parquet")
    parts = [_lanl_system(int(str(name)), rows) for name, rows in table[table["node"].notna()].groupby("system")]
    return _concatenated([part for part in parts if part is not None])


def _lanl_system(system: int, table: pd.DataFrame) -> FailureSet | None:
    table = table.sort_values("start", kind="stable")
    numbers = sorted({*range(int(table["nodes_in_system"].iloc[0])), *table["node"].astype(int)})
    place = {number: i for i, number in enumerate(numbers)}
    day = ((table["start"] - table["start"].min()).dt.total_seconds() / DAY_S).to_numpy()
    node = np.asarray([place[int(n)] for n in table["node"]])
    hardware = (table["cause"] == "Hardware").to_numpy()
    landmarks = np.arange(28.0, float(day.max()) - 7.0 + 1e-9, 7.0)
    if not len(landmarks):
        return None
    times = [day[node == i] for i in range(len(numbers))]
    faults = [day[(node == i) & hardware] for i in range(len(numbers))]
    columns = _lanl_columns(landmarks, day, times, faults)
    failed = _counts(times, landmarks + 7.0, 7.0) > 0
    so_far = np.searchsorted(day, landmarks, side="right") / (len(numbers) * landmarks)
    size = failed.size
    return FailureSet(
        failed.ravel().astype(np.float64),
        {name: values.ravel() for name, values in columns.items()},
        np.full(size, f"system {system}"),
        np.full(size, system),
        _gamma_poisson(landmarks, times, 7.0).ravel(),
        np.repeat(-np.expm1(-7.0 * so_far), len(numbers)),
        np.repeat(landmarks, len(numbers)),
    )


def _lanl_columns(landmarks: Array, day: Array, times: list[Array], faults: list[Array]) -> dict[str, Array]:
    num = len(times)
    month = _counts(times, landmarks, 30.0)
    beside = np.pad(month, ((0, 0), (1, 1)))
    last = np.stack([_last(t, landmarks) for t in times], axis=1)
    week = np.searchsorted(day, landmarks, side="right") - np.searchsorted(day, landmarks - 7.0, side="right")
    never = np.repeat(landmarks[:, None], num, axis=1)
    return {
        "days_since": np.where(np.isnan(last), never, landmarks[:, None] - last),
        "failures_7d": _counts(times, landmarks, 7.0),
        "failures_30d": month,
        "failures_90d": _counts(times, landmarks, 90.0),
        "hardware_90d": _counts(faults, landmarks, 90.0),
        "neighbours_30d": beside[:, :-2] + beside[:, 2:],
        "system_7d": np.repeat((week / num / 7.0 * 1000.0)[:, None], num, axis=1),
    }


def _gamma_poisson(landmarks: Array, times: list[Array], horizon_days: float) -> Array:
    """Each node's probability at each landmark from its own history and its class's, shape (landmarks, nodes)."""
    histories = [NodeHistory(0.0) for _ in times]
    result = np.empty((len(landmarks), len(times)))
    before = 0.0
    for row, landmark in enumerate(landmarks):
        for i, node in enumerate(times):
            for t in node[
                np.searchsorted(node, before, "right") if row else 0 : np.searchsorted(node, landmark, "right")
            ]:
                histories[i] = watched(histories[i], float(t) * DAY_S, failures=1)
            histories[i] = watched(histories[i], float(landmark) * DAY_S)
        prior = class_prior(histories)
        for i, history in enumerate(histories):
            expected = expected_failures(history, prior, float(landmark) * DAY_S, horizon_days * DAY_S)
            result[row, i] = failure_probability(expected)
        before = float(landmark)
    return result


def load_titan(folder: Path) -> FailureSet:
    """Titan's GPUs, each every 30 days: a double-bit error or off the bus within 30? Reference: the fleet's last 30."""
    table = pd.read_parquet(folder / "titan_gpu_life.parquet")
    start = pd.Timestamp("2013-11-01")
    serial = pd.factorize(table["SN"])[0]
    begin = ((table["insert"] - start).dt.total_seconds() / DAY_S).to_numpy(dtype=np.float64)
    end = ((table["remove"] - start).dt.total_seconds() / DAY_S).to_numpy(dtype=np.float64)
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
    return _concatenated(parts)


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
    for s, days in zip(serials, age, strict=True):
        history = histories.get(int(s)) or NodeHistory(now - min(float(days), 30.0) * DAY_S)
        for t in recent.get(int(s), ()):
            history = watched(history, t, failures=1)
        histories[int(s)] = watched(history, now)
    own = [histories[int(s)] for s in serials]
    result = np.empty(len(serials))
    for code in (0.0, 1.0):
        chosen = np.flatnonzero(batch == code)
        prior = class_prior([own[i] for i in chosen])
        for i in chosen:
            result[i] = failure_probability(expected_failures(own[i], prior, now, 30.0 * DAY_S))
    return result


SMART = {
    "smart_5": "reallocated sectors",
    "smart_10": "failed spin-ups",
    "smart_12": "power cycles",
    "smart_187": "errors that could not be corrected",
    "smart_188": "commands that timed out",
    "smart_189": "writes with the head too high",
    "smart_196": "reallocation events",
    "smart_197": "sectors that wait to be reallocated",
    "smart_198": "sectors that cannot be corrected",
}


def load_backblaze(folder: Path) -> FailureSet:
    """Disks at every 720th hour of power: does it fail within the next 720? Reference: the base rate."""
    table = pd.read_parquet(folder / "backblaze_smart.parquet")
    table = table.sort_values(["disk", "tstart"], kind="stable").reset_index(drop=True)
    begin, stop, disk = (table[c].to_numpy(dtype=np.int64) for c in ("tstart", "tstop", "disk"))
    of_disk = table.groupby("disk")
    end = of_disk["tstop"].transform("max").to_numpy(dtype=np.int64)
    fails = of_disk["fails"].transform("max").to_numpy() == 1
    seen_from = of_disk["tstart"].transform("min").to_numpy(dtype=np.int64)
    first = -(-begin // 720)
    num = np.maximum((stop - 1) // 720 - first + 1, 0)
    row = np.repeat(np.arange(len(table)), num)
    landmark = (first[row] + np.arange(len(row)) - np.repeat(np.cumsum(num) - num, num)) * 720
    failed = fails[row] & (end[row] <= landmark + 720)
    known = failed | (end[row] >= landmark + 720)
    row, landmark, failed = row[known], landmark[known], failed[known]
    key = disk * 1_000_000 + begin
    earlier = np.searchsorted(key, disk[row] * 1_000_000 + np.maximum(landmark - 720, 0), "right") - 1
    same = (earlier >= 0) & (disk[earlier] == disk[row])
    columns: dict[str, Array] = {
        "power_hours": landmark.astype(np.float64),
        "hours_unchanged": (landmark - begin[row]).astype(np.float64),
        "hours_seen": (landmark - seen_from[row]).astype(np.float64),
        "maker": table["manufacturer"].map({"HGST": 0.0, "ST": 1.0, "WDC": 2.0}).to_numpy(dtype=np.float64)[row],
        "size_tb": table["size_tb"].to_numpy(dtype=np.float64)[row],
    }
    for name in SMART:
        values = table[name].to_numpy(dtype=np.float64)
        columns[name] = values[row]
        columns[f"{name}_rise"] = np.where(same, values[row] - values[earlier], np.nan)
    models = table["model"].astype(str).to_numpy()[row].astype(np.str_)
    return FailureSet(failed.astype(np.float64), columns, models, disk[row])


def load_pdm(folder: Path) -> FailureSet:
    """The synthetic Azure machines at 06:00 each day: a failure within 24 h? Reference: the base rate."""
    start = pd.Timestamp("2014-01-01")
    tables = {
        name: pd.read_csv(folder / "pdm" / f"{name}.csv", parse_dates=["datetime"])
        for name in ("errors", "failures", "maint")
    }
    kinds = {"errors": "errorID", "failures": "failure", "maint": "comp"}
    hours: dict[tuple[str, int, str], Array] = {}
    for name, table in tables.items():
        hour = (table["datetime"] - start).dt.total_seconds() / HOUR_S
        for (machine, kind), values in hour.groupby([table["machineID"], table[kinds[name]]]):
            hours[name, int(str(machine)), str(kind)] = np.sort(values.to_numpy())
    machines = pd.read_csv(folder / "pdm" / "machines.csv")
    landmarks = np.arange(366.0 * 24 + 6, 2 * 365.0 * 24 - 24, 24.0)
    parts = [
        _pdm_machine(int(m), float(age), str(model), landmarks, hours)
        for m, age, model in zip(machines["machineID"], machines["age"], machines["model"], strict=True)
    ]
    return _concatenated(parts)


def _pdm_machine(
    machine: int, age: float, model: str, landmarks: Array, hours: Mapping[tuple[str, int, str], Array]
) -> FailureSet:
    none = np.empty(0)
    fails = [hours.get(("failures", machine, f"comp{i}"), none) for i in range(1, 5)]
    all_fails = np.sort(np.concatenate(fails))
    columns = {"age_years": np.full(len(landmarks), age)}
    for i in range(1, 6):
        errors = hours.get(("errors", machine, f"error{i}"), none)
        columns[f"error{i}_24h"] = _counts([errors], landmarks, 24.0)[:, 0]
        columns[f"error{i}_since"] = landmarks - _last(errors, landmarks)
    for i in range(1, 5):
        columns[f"comp{i}_replaced"] = landmarks - _last(hours.get(("maint", machine, f"comp{i}"), none), landmarks)
        columns[f"comp{i}_failed"] = landmarks - _last(fails[i - 1], landmarks)
    failed = (_counts([all_fails], landmarks + 24.0, 24.0)[:, 0] > 0).astype(np.float64)
    size = len(landmarks)
    return FailureSet(failed, columns, np.full(size, model), np.full(size, machine))


def load_ai4i(folder: Path) -> FailureSet:
    """The static synthetic rows of AI4I 2020; no time, no history. Reference: the base rate."""
    table = pd.read_csv(folder / "ai4i2020.csv")
    names = {
        "air_k": "Air temperature [K]", "process_k": "Process temperature [K]", "speed_rpm": "Rotational speed [rpm]",
        "torque_nm": "Torque [Nm]", "wear_min": "Tool wear [min]",
    }  # fmt: skip
    columns = {short: table[name].to_numpy(dtype=np.float64) for short, name in names.items()}
    columns["power_w"] = columns["speed_rpm"] * columns["torque_nm"] * 2.0 * np.pi / 60.0
    columns["strain"] = columns["wear_min"] * columns["torque_nm"]
    columns["gap_k"] = columns["process_k"] - columns["air_k"]
    failed = table["Machine failure"].to_numpy(dtype=np.float64)
    kinds = table["Type"].astype(str).to_numpy().astype(np.str_)
    return FailureSet(failed, columns, kinds, np.arange(len(table)))


def _counts(times: list[Array], landmarks: Array, window: float) -> Array:
    """Events of each node in (landmark - window, landmark], shape (landmarks, nodes)."""
    counted = [np.searchsorted(t, landmarks, "right") - np.searchsorted(t, landmarks - window, "right") for t in times]
    return np.stack(counted, axis=1).astype(np.float64)


def _last(times: Array, landmarks: Array) -> Array:
    """The newest event at each landmark; NaN before the first."""
    return np.concatenate([[np.nan], times])[np.searchsorted(times, landmarks, "right")]


def _concatenated(parts: list[FailureSet]) -> FailureSet:
    def joined(name: str) -> Array | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    return FailureSet(
        np.concatenate([p.failed for p in parts]),
        {name: np.concatenate([p.columns[name] for p in parts]) for name in parts[0].columns},
        np.concatenate([p.node_classes for p in parts]),
        np.concatenate([p.groups for p in parts]),
        joined("priors"),
        joined("reference"),
        joined("days"),
    )


def _signals(words: Mapping[str, str], num_knots: int, categories: tuple[str, ...] = ()) -> tuple[Signal, ...]:
    return tuple(Signal(name, said, num_knots, name in categories) for name, said in words.items())


_LANL = {
    "days_since": "days since its last failure",
    "failures_7d": "failures in 7 days",
    "failures_30d": "failures in 30 days",
    "failures_90d": "failures in 90 days",
    "hardware_90d": "hardware failures in 90 days",
    "neighbours_30d": "failures of its neighbours in 30 days",
    "system_7d": "failures per 1,000 node-days of its system in 7 days",
}
_TITAN = {
    "days_since": "days since its last error",
    "errors": "errors so far",
    "off_bus": "times off the bus",
    "errors_here": "errors in its slot so far",
    "moves": "moves so far",
    "age_days": "days since it was bought",
    "stay_days": "days in this slot",
    "batch": "batch",
    "fleet_30d": "errors per 1,000 GPUs of the fleet in 30 days",
    "cage": "cage", "slot": "slot", "node": "node", "col": "column", "row": "row",
}  # fmt: skip
_BACKBLAZE = {
    "power_hours": "hours of power",
    "hours_unchanged": "hours without a change",
    "hours_seen": "hours in service",
    "maker": "maker",
    "size_tb": "terabytes",
    **SMART,
    **{f"{name}_rise": f"new {said} in 720 h" for name, said in SMART.items()},
}
_PDM = {
    "age_years": "years of age",
    **{f"error{i}_24h": f"errors of kind {i} in 24 h" for i in range(1, 6)},
    **{f"error{i}_since": f"hours since an error of kind {i}" for i in range(1, 6)},
    **{f"comp{i}_replaced": f"hours since component {i} was replaced" for i in range(1, 5)},
    **{f"comp{i}_failed": f"hours since component {i} failed" for i in range(1, 5)},
}
_AI4I = {
    "air_k": "kelvin of the air", "process_k": "kelvin of the process", "speed_rpm": "turns a minute",
    "torque_nm": "newton metres", "wear_min": "minutes of wear", "power_w": "watts",
    "strain": "minutes x newton metres", "gap_k": "kelvin between process and air",
}  # fmt: skip

SOURCES: Mapping[str, Source] = {
    "lanl": Source(load_lanl, _signals(_LANL, 2), 7 * DAY_S, LearningParams(shrink=20.0, num_rounds=40)),
    "titan": Source(
        load_titan,
        _signals(_TITAN, 12, ("batch", "cage", "slot", "node", "col", "row")),
        30 * DAY_S,
        LearningParams(shrink=5.0, num_pairs=8),
    ),
    "backblaze": Source(
        load_backblaze, _signals(_BACKBLAZE, 10, ("maker",)), 720 * HOUR_S, LearningParams(shrink=5.0, num_pairs=6)
    ),
    "pdm": Source(load_pdm, _signals(_PDM, 6), DAY_S, LearningParams(shrink=5.0, num_pairs=10)),
    "ai4i": Source(load_ai4i, _signals(_AI4I, 12), DAY_S, LearningParams(num_pairs=12, ridge=2.0)),
}
