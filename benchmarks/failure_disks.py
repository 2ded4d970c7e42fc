"""The disks of Backblaze, at every 720th hour of power."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.failure_cases import FailureSet
from platformops.health.ratios import Array

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
