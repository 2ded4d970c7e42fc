"""Evaluation by distributed batch inference on Ray Data, with the code and runtime that will serve the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from platformops.apps.contract import App, Outputs
from platformops.apps.load import load_app
from platformops.apps.prepared import PreparedDataset, open_prepared
from platformops.apps.splits import content_digest
from platformops.errors import StageFailed
from platformops.frameworks.torch import load_predictor
from platformops.on_ray.avoiding import selector
from platformops.on_ray.gang_places import kept_off
from platformops.on_ray.session import capacities
from platformops.on_ray.tickets import task_cpus
from platformops.store.records import JsonObject

BATCH_ROWS = 256
ROWS_AN_ACTOR = 4096
"""An actor takes seconds to start and thousands of small images a second afterwards."""
SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp"}


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the test split shows."""

    app: App
    dataset: PreparedDataset
    probabilities: Outputs
    metrics: JsonObject


class Predict:
    """One actor of the batch inference: ranges of test rows in, probabilities out."""

    def __init__(self, app: str, root: str, dataset: str, model: str, threads: int) -> None:
        self._app = load_app(app, Path(root))
        self._dataset = open_prepared(Path(dataset))
        self._predictor = load_predictor(Path(model), runtime="auto", threads=threads, app=self._app)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        start, stop = int(batch["start"][0]), int(batch["stop"][0])
        images = self._dataset.splits["test"].images.slice(start, stop)
        outputs = self._predictor(self._app.transform(list(images), self._dataset.remaining))
        return {"start": np.array([start]), "probabilities": np.array([outputs.tobytes()], dtype=object)}


def evaluate(
    *,
    app: str,
    root: Path,
    dataset_directory: Path,
    model_directory: Path,
    output: Path,
    progress: Callable[[float | None, str], None],
) -> Evaluated:
    """Scores the model on the test split and writes `metrics.json`, `predictions.npz` and `parity.npz`."""
    functions, dataset = load_app(app, root), open_prepared(dataset_directory)
    probabilities = _predicted(app, root, dataset, model_directory, progress)
    test = dataset.splits["test"]
    metrics = functions.score(probabilities, test.labels, dataset.classes)
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    ids = np.array(test.ids)
    np.savez(output / "predictions.npz", ids=ids, labels=test.labels, probabilities=probabilities)
    _write_parity(functions, dataset, ids, probabilities, output)
    return Evaluated(functions, dataset, probabilities, metrics)


def flat_metrics(metrics: JsonObject) -> JsonObject:
    """The plain figures: what gates, tables and scripts use."""
    return {k: v for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _predicted(
    app: str, root: Path, dataset: PreparedDataset, model: Path, progress: Callable[[float | None, str], None]
) -> Outputs:
    rows, classes = dataset.splits["test"].rows, len(dataset.classes)
    closed = kept_off({"CPU": task_cpus(capacities())})
    free = capacities(but=closed)
    cpus = sum(int(n.cpus) for n in free)
    actors = max(1, min(cpus, rows // ROWS_AN_ACTOR))
    ranges = [{"start": i, "stop": min(i + BATCH_ROWS, rows)} for i in range(0, rows, BATCH_ROWS)]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = 120
    predicted = ray.data.from_items(ranges, override_num_blocks=min(len(ranges), actors * 8)).map_batches(
        Predict,
        fn_constructor_args=(app, str(root), str(dataset.directory), str(model), max(1, cpus // actors)),
        batch_size=1,
        num_cpus=task_cpus(free),
        compute=ray.data.ActorPoolStrategy(size=actors),
        label_selector=selector(closed) or None,
    )
    outputs = np.full((rows, classes), np.nan, dtype=np.float32)
    done = 0
    for record in predicted.iter_rows():
        part = np.frombuffer(record["probabilities"], dtype=np.float32).reshape(-1, classes)
        outputs[record["start"] : record["start"] + len(part)] = part
        done += len(part)
        progress(done / rows, f"{done} of {rows} test rows")
    if not np.isfinite(outputs).all():
        raise StageFailed("the model gives answers that are not numbers", remedy="train again with a lower train.lr")
    return outputs


def _write_parity(
    functions: App, dataset: PreparedDataset, ids: np.ndarray, probabilities: Outputs, output: Path
) -> None:
    """Raw test rows beside what they were made and answered here, to be compared with the real endpoint."""
    with np.load(dataset.directory / "raw-test-rows.npz", allow_pickle=False) as raw:
        place = {row_id: number for number, row_id in enumerate(ids.tolist())}
        kept = [place[row_id] for row_id in raw["ids"].tolist()]
        content, offsets = raw["content"], raw["offsets"]
        np.savez(
            output / "parity.npz",
            content=content,
            offsets=offsets,
            labels=raw["labels"],
            ids=raw["ids"],
            probabilities=probabilities[kept],
            transformed=np.array(_digests(functions, dataset, kept)),
        )
    first = content[offsets[0] : offsets[1]].tobytes()
    (output / f"sample{SUFFIXES.get(first[:2], '.bin')}").write_bytes(first)


def _digests(functions: App, dataset: PreparedDataset, numbers: Sequence[int]) -> list[str]:
    """Of what the model was given of test rows."""
    images = dataset.splits["test"].images
    rows = (functions.transform(list(images.slice(n, n + 1)), dataset.remaining) for n in numbers)
    return [content_digest(row[0]) for row in rows]
