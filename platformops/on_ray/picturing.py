"""Gathers from the artifacts what the evaluation report shows, and writes the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from platformops.apps.contract import Batch, Outputs
from platformops.apps.prepared import QUARANTINE, PreparedDataset, PreparedSplit
from platformops.observation.records import Mistake, Picture, Report
from platformops.observation.report import render
from platformops.store.records import Json, JsonObject

SAMPLES_A_CLASS = 6
CLASSES_SHOWN = 20
MISTAKES_SHOWN = 24
SIDE_PIXELS = 96
"""Longer side of a picture on the page."""


def write_report(
    dataset: PreparedDataset, model_directory: Path, metrics: JsonObject, probabilities: Outputs, output: Path
) -> None:
    """`report.html` in `output`: one page without any outside resource."""
    described = json.loads((model_directory / "model.json").read_text(encoding="utf-8"))
    history = json.loads((model_directory / "history.json").read_text(encoding="utf-8"))
    training = json.loads((model_directory / "training.json").read_text(encoding="utf-8"))
    quarantine = json.loads((dataset.directory / QUARANTINE).read_text(encoding="utf-8"))
    report = Report(
        title=f"Evaluation of {described.get('model', 'the model')}",
        classes=dataset.classes,
        metrics=metrics,
        history=history,
        counts={name: _counts(split, dataset.classes) for name, split in dataset.splits.items()},
        quarantined=[(entry["id"], entry["reason"]) for entry in quarantine],
        samples=_samples(dataset),
        mistakes=_mistakes(dataset, probabilities),
        params=_facts(described) | _facts(training),
        lineage={"prepared data": dataset.digest, "test rows": dataset.splits["test"].rows},
    )
    (output / "report.html").write_text(render(report), encoding="utf-8")


def _facts(described: Mapping[str, Json]) -> dict[str, Json]:
    return {k: v for k, v in described.items() if k != "classes"}


def _counts(split: PreparedSplit, classes: tuple[str, ...]) -> dict[str, int]:
    counted = np.bincount(split.labels, minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counted, strict=True)}


def _samples(dataset: PreparedDataset) -> dict[str, list[Picture]]:
    train = dataset.splits["train"]
    return {
        name: [_picture(train, int(i)) for i in np.flatnonzero(train.labels == number)[:SAMPLES_A_CLASS]]
        for number, name in enumerate(dataset.classes[:CLASSES_SHOWN])
    }


def _mistakes(dataset: PreparedDataset, probabilities: Outputs) -> list[Mistake]:
    test = dataset.splits["test"]
    answers = probabilities.argmax(axis=1)
    wrong: NDArray[np.int64] = np.flatnonzero(answers != test.labels)
    worst = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")][:MISTAKES_SHOWN]
    return [
        Mistake(
            picture=_picture(test, int(i)),
            id=test.ids[i],
            truth=dataset.classes[test.labels[i]],
            answer=dataset.classes[answers[i]],
            probability=float(probabilities[i, answers[i]]),
        )
        for i in worst
    ]


def _picture(split: PreparedSplit, row: int) -> Picture:
    return Picture(_png(split.images.slice(row, row + 1)[0]))


def _png(image: Batch) -> bytes:
    scale = SIDE_PIXELS / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    # Enlarged pixels stay squares: a blurred 8x8 digit would show something that the model never saw.
    resized = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)
    channels = resized if resized.ndim == 2 else cv2.cvtColor(resized, cv2.COLOR_RGB2BGR)
    encoded, content = cv2.imencode(".png", channels)
    assert encoded, "a uint8 image can always be encoded"
    return content.tobytes()
