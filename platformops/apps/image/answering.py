"""Probabilities -> what a person or a program reads: one answer a row, and the figures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from platformops.apps import classification
from platformops.apps.contract import Outputs
from platformops.store.records import JsonObject

DIGITS = 6
"""Of a probability in an answer: float32 carries seven, and runtimes differ in the last."""


def encode(outputs: Outputs, classes: Sequence[str]) -> Sequence[JsonObject]:
    """One `{"label", "probability", "probabilities": {class: share}}` a row."""
    best = outputs.argmax(axis=1)
    return [
        {
            "label": classes[index],
            "probability": round(float(row[index]), DIGITS),
            "probabilities": {name: round(float(share), DIGITS) for name, share in zip(classes, row, strict=True)},
        }
        for index, row in zip(best, outputs, strict=True)
    ]


def score(outputs: Outputs, labels: NDArray[np.int64], classes: Sequence[str]) -> JsonObject:
    """Accuracy, macro and per-class precision, recall and F1, confusion, calibration error, with intervals."""
    return classification.score(outputs, labels, classes)
