"""The node failures of Los Alamos (LA-UR-05-7318), week by week."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.failure_cases import FailureSet, concatenated, counts_within, newest
from platformops.health.hazard import (
    DAY_S,
    NodeHistory,
    class_prior,
    expected_failures,
    failure_probability,
    watched,
)
from platformops.health.ratios import Array


def load_lanl(folder: Path) -> FailureSet:
    """LANL systems, each node each week: does it fail within 7 days? Reference: the system's rate so far."""
    table = pd.read_parquet(folder / "lanl_node_failures.parquet")
    parts = [_lanl_system(int(str(name)), rows) for name, rows in table[table["node"].notna()].groupby("system")]
    return concatenated([part for part in parts if part is not None])


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
    failed = counts_within(times, landmarks + 7.0, 7.0) > 0
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
    month = counts_within(times, landmarks, 30.0)
    beside = np.pad(month, ((0, 0), (1, 1)))
    last = np.stack([newest(t, landmarks) for t in times], axis=1)
    week = np.searchsorted(day, landmarks, side="right") - np.searchsorted(day, landmarks - 7.0, side="right")
    never = np.repeat(landmarks[:, None], num, axis=1)
    return {
        "days_since": np.where(np.isnan(last), never, landmarks[:, None] - last),
        "failures_7d": counts_within(times, landmarks, 7.0),
        "failures_30d": month,
        "failures_90d": counts_within(times, landmarks, 90.0),
        "hardware_90d": counts_within(faults, landmarks, 90.0),
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
