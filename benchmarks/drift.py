"""Delay and false alarms of drift detection, on streams with known change points and on unchanged ones.

    python benchmarks/drift.py --data DIR [--short]

DIR holds `drift_streams.parquet` and `drift_streams_truth.json`, or is a folder above `apps/tabular` of such data. The
first quarter of a stream, at most 1,000 rows, is the reference: half of it fits a small model and the principal
directions, the other half is what later rows are compared with. The threshold is a theorem's, and nothing is fitted to
these files. Unchanged rows are drawn at random from the hours of `bikes.parquet` beside them; 100,000 of them with
`--short`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from platformops.observation.drift.features import fit_features
from platformops.observation.drift.outcomes import outcomes_of
from platformops.observation.drift.records import Drift
from platformops.observation.drift.watch import Watch

REFERENCE = 1000
STREAM_ROWS = 4000
WITHIN = {"mean_shift": 500, "scale": 500, "season_swap": 500, "gradual": 700, "missing": 2000, "label_flip": 2000}
TARGETS = {"false_alarms": "<= 1 in 100,000 rows", "delay_rows": WITHIN}
INPUTS = ["season", "hr", "holiday", "weekday", "workingday", "weathersit", "temp", "atemp", "hum", "windspeed"]


@dataclass(frozen=True)
class Judged:
    kind: str
    false_alarms: int
    unchanged_rows: int
    delay_rows: int | None
    """From the first changed row to the confirmation; None when it was not found."""
    cause: str


def watched(table: pd.DataFrame, *, seed: int) -> tuple[int, tuple[Drift, ...]]:
    """Rows of the reference, and all that was confirmed after it, in a table with inputs and `y`."""
    from sklearn.ensemble import RandomForestClassifier

    size = min(REFERENCE, len(table) // 4)
    fit, kept = table.iloc[:size:2], table.iloc[1:size:2]
    inputs = [c for c in table.columns if c != "y"]
    model = RandomForestClassifier(20, min_samples_leaf=5, random_state=0).fit(fit[inputs], fit["y"])
    features, outcomes = fit_features(fit[inputs]), outcomes_of(list(model.predict(fit[inputs])))

    def values(rows: pd.DataFrame) -> np.ndarray:
        told = outcomes.values(list(model.predict(rows[inputs])), list(rows["y"]))
        return np.concatenate([features.values(rows[inputs]), told], axis=1)

    watch = Watch((*features.streams, *outcomes.streams), values(kept), seed=seed)
    return size, watch.observe(values(table.iloc[size:]))


def judged(table: pd.DataFrame, kind: str, change_at: int, *, seed: int) -> Judged:
    size, found = watched(table, seed=seed)
    end = change_at if change_at >= 0 else len(table)
    early = [d for d in found if d.row + size <= end]
    late = [d for d in found if d.row + size > end]
    delay = late[0].row + size - change_at if late and change_at >= 0 else None
    return Judged(kind, len(early), end - size, delay, late[0].stream.name if late else "")


def of_truth(folder: Path) -> list[Judged]:
    streams = pd.read_parquet(folder / "drift_streams.parquet")
    truth = json.loads((folder / "drift_streams_truth.json").read_text(encoding="utf-8"))
    return [
        judged(
            streams[streams["stream"] == one["stream"]].sort_values("t").drop(columns=["stream", "t"]),
            str(one["kind"]),
            int(one["change_at"]),
            seed=i,
        )
        for i, one in enumerate(truth)
    ]


def unchanged(folder: Path, rows: int) -> list[Judged]:
    """Streams of rows drawn at random from real hours; of normal numbers where there are none."""
    luck = np.random.default_rng(20_251_127)
    path = folder / "bikes.parquet"
    if path.is_file():
        hours = pd.read_parquet(path)
        hours = hours[INPUTS].astype(np.float32).assign(y=(hours["cnt"] > hours["cnt"].median()).astype(int))
    else:
        drawn = luck.normal(size=(10_000, len(INPUTS)))
        hours = pd.DataFrame(drawn, columns=INPUTS).assign(y=(drawn[:, 0] + luck.normal(size=10_000) > 0).astype(int))
    made: list[Judged] = []
    while sum(j.unchanged_rows for j in made) < rows:
        table = hours.iloc[luck.integers(0, len(hours), STREAM_ROWS)].reset_index(drop=True)
        made.append(judged(table, "none", -1, seed=len(made)))
    return made


def folder_of(data: Path) -> Path:
    for folder in (data, data / "tabular", data / "apps" / "tabular"):
        if (folder / "drift_streams.parquet").is_file():
            return folder
    raise SystemExit(f"there is no drift_streams.parquet in {data}, nor in tabular/ or apps/tabular/ below it")


def summary(known: list[Judged], drawn: list[Judged]) -> dict[str, object]:
    figures: dict[str, object] = {
        "false_alarms": sum(j.false_alarms for j in known + drawn),
        "rows": sum(j.unchanged_rows for j in known + drawn),
    }
    for kind in WITHIN:
        those = [j for j in known if j.kind == kind]
        delays = [j.delay_rows for j in those if j.delay_rows is not None]
        if those:
            is_found = len(delays) == len(those)
            figures[kind] = {"found": is_found, "streams": len(those), "delay_rows": max(delays) if is_found else None}
    return figures


def is_passed(figures: dict[str, object]) -> bool:
    allowed = max(1, int(str(figures["rows"])) // 100_000)
    is_quiet = int(str(figures["false_alarms"])) <= allowed
    found = [(kind, figures[kind]) for kind in WITHIN if kind in figures]
    return is_quiet and all(isinstance(f, dict) and f["found"] and f["delay_rows"] <= WITHIN[kind] for kind, f in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("PLATFORMOPS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--short", action="store_true")
    asked = parser.parse_args()
    folder = folder_of(asked.data)
    known, drawn = of_truth(folder), unchanged(folder, 100_000 if asked.short else 400_000)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'stream':14}{'unchanged rows':>15}{'false alarms':>14}{'delay':>8}  found by")
    for j in known:
        delay = str(j.delay_rows) if j.delay_rows is not None else "-"
        print(f"{j.kind:14}{j.unchanged_rows:>15,}{j.false_alarms:>14}{delay:>8}  {j.cause}")
    print(f"{'drawn':14}{sum(j.unchanged_rows for j in drawn):>15,}{sum(j.false_alarms for j in drawn):>14}{'-':>8}")
    figures = summary(known, drawn)
    passed = is_passed(figures)
    print(json.dumps({"name": "drift", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
