"""The sets of recorded failures, with the signals that are read of each and how their models are learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.failure_cases import FailureSet
from benchmarks.failure_disks import SMART, load_backblaze
from benchmarks.failure_lanl import load_lanl
from benchmarks.failure_machines import HOUR_S, load_ai4i, load_pdm
from benchmarks.failure_titan import load_titan
from platformops.health.hazard import DAY_S
from platformops.health.learning import LearningParams
from platformops.health.risk import Signal


@dataclass(frozen=True, slots=True)
class Source:
    load: Callable[[Path], FailureSet]
    signals: tuple[Signal, ...]
    horizon_s: float
    params: LearningParams = field(default_factory=LearningParams)


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
    "lanl": Source(load_lanl, _signals(_LANL, 2), 7 * DAY_S, LearningParams(num_rounds=40)),
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
