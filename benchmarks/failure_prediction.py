"""How well failures are foreseen on recorded failures: Brier skill, AUPRC and calibration, beside simpler forecasts.

python benchmarks/failure_prediction.py [--data DIR] [--fit DIR] [--short]

Everything is fitted on the folder of `--fit` and judged on that of `--data`. When both are the same folder, each case
is judged by a model that was fitted without its group (system, GPU, disk, machine): cross-validation. The figures of
the cross-validation inside `--fit` are printed beside those of other data in either case.

`brier_skill` is 1 - Brier/Brier of the reference (LANL: the system's rate so far; Titan: the fleet's last 30 days; else
the base rate of the judged cases, which no forecast could know). `ece` has ten bins of equally many cases. `recall` and
`precision` are those at p >= 1/11, the threshold of a false alarm that costs a tenth of a missed failure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.failure_cases import FailureSet, frozen_priors
from benchmarks.failure_sets import SOURCES, Source
from platformops.health.calibration import Decided, Record, correct, learn_outcomes
from platformops.health.fusion import logits
from platformops.health.hazard import DAY_S
from platformops.health.learning import learn
from platformops.health.ratios import Array, Index, cells, choose_knots
from platformops.health.risk import Signal

TARGETS: Mapping[str, Mapping[str, float]] = {
    "lanl": {"brier_skill": 0.08, "auprc": 0.215, "ece": 0.005},
    "titan": {"brier_skill": 0.018, "auprc": 0.035},
    "backblaze": {"brier_skill": 0.055, "auprc": 0.12, "ece": 0.001},
    "pdm": {"auprc": 0.75, "recall": 0.95, "precision": 0.5},
    "ai4i": {},
}
ALARM = 1.0 / 11.0
NUM_FOLDS = 3
LANL_FOLDS = {2: 0, 18: 1}  # the two large systems by themselves, the ten small ones together


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Probabilities of the judged cases, shape (rows,) each."""

    fused: Array
    recalibrated: Array | None
    naive: Array
    prior: Array


def main() -> int:
    default = Path(os.environ.get("PLATFORMOPS_DATA", "../shared/data")) / "health"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default, help="cases to judge")
    parser.add_argument("--fit", type=Path, default=default, help="cases to fit everything on")
    parser.add_argument("--short", action="store_true", help="no cross-validation beside the figures of other data")
    options = parser.parse_args()
    is_same = options.data.resolve() == options.fit.resolve()
    figures = {name: _figures_of(name, source, options, is_same=is_same) for name, source in SOURCES.items()}
    missed = list(_missed(figures))
    print(*missed or ["every target is met"], sep="\n")
    answer = {"name": "failure_prediction", "figures": figures, "targets": TARGETS, "passed": not missed}
    print(json.dumps(answer))
    return 1 if missed else 0


def _figures_of(name: str, source: Source, options: argparse.Namespace, *, is_same: bool) -> dict[str, float]:
    fitted = source.load(options.fit)
    judged = fitted if is_same else source.load(options.data)
    print(f"{name}: {len(judged.failed):,} cases, {judged.failed.mean():.4f} fail", flush=True)
    if is_same:
        return _table("cross-validated", judged, _cross_validated(name, source, fitted))
    if not options.short:
        _table("cross-validated in --fit", fitted, _cross_validated(name, source, fitted))
    return _table("judged on --data", judged, _forecast(source, fitted, judged))


def _table(title: str, judged: FailureSet, forecasts: Forecasts) -> dict[str, float]:
    base = np.full(len(judged.failed), judged.failed.mean())
    reference = base if judged.reference is None else judged.reference
    rows = {"naive Bayes": forecasts.naive, "hazard alone": forecasts.prior, "fused": forecasts.fused}
    if forecasts.recalibrated is not None:
        rows["fused, recalibrated online"] = forecasts.recalibrated
    found = {label: _score(p, judged.failed, reference) for label, p in {"base rate": base, **rows}.items()}
    print(f"  {title:28s} {'skill':>8} {'auprc':>7} {'ece':>7} {'recall':>7} {'precision':>9}")
    for label, score in found.items():
        numbers = (score["brier_skill"], score["auprc"], score["ece"], score["recall"], score["precision"])
        print("  {:28s} {:8.4f} {:7.4f} {:7.4f} {:7.3f} {:9.3f}".format(label, *numbers), flush=True)
    chosen = found["fused" if forecasts.recalibrated is None else "fused, recalibrated online"]
    beside = {
        "brier_skill_frozen": found["fused"]["brier_skill"],
        "brier_skill_naive": found["naive Bayes"]["brier_skill"],
        "brier_skill_base_rate": found["base rate"]["brier_skill"],
    }
    return {key: round(value, 5) for key, value in {**chosen, **beside}.items()}


def _score(p: Array, failed: Array, reference: Array) -> dict[str, float]:
    alarm = p >= ALARM
    hits = float(failed[alarm].sum())
    order = np.argsort(p, kind="stable")
    bins = np.array_split(order, 10)
    return {
        "brier_skill": 1.0 - float(((p - failed) ** 2).mean() / ((reference - failed) ** 2).mean()),
        "auprc": float(average_precision_score(failed, p)),
        "ece": sum(abs(float((p[b] - failed[b]).sum())) for b in bins) / len(p),
        "recall": hits / float(failed.sum()),
        "precision": hits / max(float(alarm.sum()), 1.0),
    }


def _cross_validated(name: str, source: Source, cases: FailureSet) -> Forecasts:
    if name == "lanl":
        folds = np.asarray([LANL_FOLDS.get(int(g), 2) for g in cases.groups])
    else:
        folds = cases.groups * 7919 % NUM_FOLDS
    parts = np.empty((3, len(folds)))
    for fold in range(NUM_FOLDS):
        inside = folds == fold
        found = _forecast(source, _chosen(cases, ~inside), _chosen(cases, inside), recalibrate=False)
        parts[:, inside] = found.fused, found.naive, found.prior
    return Forecasts(parts[0], _recalibrated(source, cases, parts[0]), parts[1], parts[2])


def _chosen(cases: FailureSet, rows: Array) -> FailureSet:
    def of(values: Array | None) -> Array | None:
        return None if values is None else values[rows]

    columns = {name: values[rows] for name, values in cases.columns.items()}
    return FailureSet(
        cases.failed[rows], columns, cases.node_classes[rows], cases.groups[rows],
        of(cases.priors), of(cases.reference), of(cases.days),
    )  # fmt: skip


def _forecast(source: Source, fitted: FailureSet, judged: FailureSet, *, recalibrate: bool = True) -> Forecasts:
    model = learn(
        fitted.cases(frozen_priors(fitted, fitted)), source.signals, horizon_s=source.horizon_s, params=source.params
    )
    priors = frozen_priors(fitted, judged)
    fused = model.probabilities(priors, judged.columns)
    recalibrated = _recalibrated(source, judged, fused) if recalibrate else None
    return Forecasts(fused, recalibrated, _naive(source, fitted, judged), priors)


def _recalibrated(source: Source, judged: FailureSet, p: Array) -> Array | None:
    """What the platform does as outcomes arrive: a case counts once its horizon has passed, and not before."""
    if judged.days is None:
        return None
    result, horizon_days = np.empty(len(p)), source.horizon_s / DAY_S
    order = np.argsort(judged.days, kind="stable")
    record, waiting = Record(at=float(judged.days[order[0]]) * DAY_S), list[tuple[float, Index]]()
    for day, rows in _by_day(judged.days, order):
        while waiting and waiting[0][0] + horizon_days <= day:
            done = waiting.pop(0)[1]
            outcomes = [Decided(str(judged.node_classes[i]), float(p[i]), bool(judged.failed[i])) for i in done]
            record = learn_outcomes(record, outcomes, day * DAY_S)
        result[rows] = [correct(record, str(judged.node_classes[i]), float(p[i])) for i in rows]
        waiting.append((day, rows))
    return result


def _by_day(days: Array, order: Index) -> Iterator[tuple[float, Index]]:
    starts = np.flatnonzero(np.diff(days[order], prepend=-np.inf))
    for rows in np.split(order, starts[1:]):
        yield float(days[rows[0]]), rows


def _naive(source: Source, fitted: FailureSet, judged: FailureSet) -> Array:
    """Textbook naive Bayes from the base rate: deciles of each signal, each ratio in full."""
    odds = logits(np.full(len(judged.failed), fitted.failed.mean()))
    for signal in source.signals:
        plain = Signal(signal.name, signal.words, 10, signal.is_category)
        cuts = choose_knots(plain, fitted.columns[signal.name])
        at, size = cells(plain, cuts, fitted.columns[signal.name]), len(cuts) + 2
        failed = (np.bincount(at, fitted.failed, size) + 0.5) / (fitted.failed.sum() + 0.5 * size)
        sound = 1.0 - fitted.failed
        not_failed = (np.bincount(at, sound, size) + 0.5) / (sound.sum() + 0.5 * size)
        odds = odds + np.log(failed / not_failed)[cells(plain, cuts, judged.columns[signal.name])]
    result: Array = 1.0 / (1.0 + np.exp(-odds))
    return result


def _missed(figures: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for name, of_set in figures.items():
        for key, limit in TARGETS[name].items():
            if of_set[key] > limit if key == "ece" else of_set[key] < limit:
                yield f"MISSED {name}: {key} {of_set[key]:.4f}, target {limit:g}"
        for other in ("naive", "base_rate"):
            if of_set["brier_skill"] <= of_set[f"brier_skill_{other}"]:
                yield f"MISSED {name}: Brier no better than {other.replace('_', ' ')}"


if __name__ == "__main__":
    sys.exit(main())
