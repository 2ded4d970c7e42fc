"""The synthetic machines: Azure's predictive maintenance sample and AI4I 2020."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.failure_cases import FailureSet, concatenated, counts_within, newest
from platformops.health.ratios import Array

HOUR_S = 3600.0


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
    return concatenated(parts)


def _pdm_machine(
    machine: int, age: float, model: str, landmarks: Array, hours: Mapping[tuple[str, int, str], Array]
) -> FailureSet:
    none = np.empty(0)
    fails = [hours.get(("failures", machine, f"comp{i}"), none) for i in range(1, 5)]
    all_fails = np.sort(np.concatenate(fails))
    columns = {"age_years": np.full(len(landmarks), age)}
    for i in range(1, 6):
        errors = hours.get(("errors", machine, f"error{i}"), none)
        columns[f"error{i}_24h"] = counts_within([errors], landmarks, 24.0)[:, 0]
        columns[f"error{i}_since"] = landmarks - newest(errors, landmarks)
    for i in range(1, 5):
        columns[f"comp{i}_replaced"] = landmarks - newest(hours.get(("maint", machine, f"comp{i}"), none), landmarks)
        columns[f"comp{i}_failed"] = landmarks - newest(fails[i - 1], landmarks)
    failed = (counts_within([all_fails], landmarks + 24.0, 24.0)[:, 0] > 0).astype(np.float64)
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
