"""Whether a live endpoint answers as the offline evaluation did: this finds wrong preprocessing, not wrong models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platformops.delivery.records import GateResult, ParityReport
from platformops.store.records import JsonObject

EXACT = 1e-3
"""What `exact` lets a probability move. Another runtime or batch shape adds float32 numbers in another order, which
moves probabilities by 1e-7 to 1e-5; a wrong crop, channel order or normalisation, and half precision, move some row by
more than 1e-2. The limit is midway in orders of magnitude."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint said of one row: the label, and the probabilities of all classes or of the first few."""

    label: str
    probabilities: Mapping[str, float]


def compare(
    ids: Sequence[str], classes: Sequence[str], offline: NDArray[np.float32], live: Sequence[Answer]
) -> ParityReport:
    """The report on `offline` (rows, classes) against `live`, both in the order of `ids`. A class that the evaluation
    does not know, a missing probability vector, and nan count as a difference of 1."""
    if not len(ids) == len(offline) == len(live):
        raise ValueError(f"{len(ids)} ids, {len(offline)} offline rows and {len(live)} answers must be equally many")
    column = {name: c for c, name in enumerate(classes)}
    moved = [_moved(row, answer, column) for row, answer in zip(offline, live, strict=True)]
    worst = int(np.argmax(moved)) if moved else 0
    labels = [
        f"row {name}: {classes[int(row.argmax())]} offline, {answer.label} live"
        for name, row, answer in zip(ids, offline, live, strict=True)
        if not _is_same_label(row, answer.label, column)
    ]
    return ParityReport(
        rows=len(ids), largest=max(moved, default=0.0), worst=ids[worst] if ids else "", other_labels=tuple(labels)
    )


def _moved(row: NDArray[np.float32], answer: Answer, column: Mapping[str, int]) -> float:
    """Largest absolute difference over the classes that the answer gives."""
    if not answer.probabilities or any(name not in column for name in answer.probabilities):
        return 1.0
    difference = max(abs(float(row[column[name]]) - p) for name, p in answer.probabilities.items())
    return difference if np.isfinite(difference) else 1.0


def _is_same_label(row: NDArray[np.float32], label: str, column: Mapping[str, int]) -> bool:
    """Also true for a tie: two classes closer than twice the rounding may change places without any fault."""
    return label in column and float(row.max() - row[column[label]]) <= 2 * EXACT


def judge(report: ParityReport | None, tolerance: float) -> GateResult:
    """The gate `parity`; a tolerance of 0 means `exact`: EXACT, and no other label."""
    if report is None or not report.rows:
        return GateResult("parity", False, "parity: no row was answered", would_change="an endpoint that answers")
    limit = tolerance or EXACT
    evidence: JsonObject = {
        "figure": report.largest, "limit": limit, "short_by": max(0.0, report.largest - limit),
        "rows": report.rows, "worst": report.worst, "other_labels": list(report.other_labels[:SHOWN]),
    }  # fmt: skip
    if report.largest > limit:
        reason = (
            f"parity: probabilities differ by up to {report.largest:.3g} (row {report.worst}), "
            f"{report.largest - limit:.3g} more than {limit:g}, over {report.rows} rows"
        )
    elif report.other_labels and not tolerance:
        reason = (
            f"parity: {len(report.other_labels)} of {report.rows} rows have another label; {report.other_labels[0]}"
        )
    else:
        reason = f"parity: {report.rows} rows answered as offline, largest difference {report.largest:.2g} of {limit:g}"
        return GateResult("parity", True, reason, evidence, f"a difference of more than {limit:g}")
    return GateResult("parity", False, reason, evidence, "the same decoding and transform offline and live")
