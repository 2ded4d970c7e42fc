"""The rows of one retraining: what the system was made of, and what came back labelled since, oldest first."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from platformops.apps.contract import App, Batch
from platformops.delivery.drift_loop import FEWEST_ROWS
from platformops.delivery.retraining import Order
from platformops.errors import BadInput, DataRefused, UserError
from platformops.frameworks.records import Predictor
from platformops.gateway.inputs import read_inputs
from platformops.pipeline.sources import located
from platformops.pipeline.training_window import Rows, Window, choose, windows
from platformops.spec.types import PlatformSpec
from platformops.store.records import Store

Floats = NDArray[np.float64]
MOST_OLD_BYTES = 512 * 1024 * 1024
"""Of the rows that the system was made of; the rest of a larger source is left out."""
MOST_TRIED = 3000
"""Old rows, evenly spread, that windows are tried on; all of them are trained on."""
FEWEST_FITTED = 40
"""Rows of a window: the trial model is a small one."""
SIDE = 16
"""Pixels to a side that the trial model sees beside the champion's answers."""
LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True, slots=True)
class LabelledRow:
    id: str
    content: bytes
    label: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """`old` came before the change; `new` after it, of which `recent`, the newest, are kept for judging."""

    old: tuple[LabelledRow, ...]
    new: tuple[LabelledRow, ...]
    recent: tuple[LabelledRow, ...]

    @property
    def fitted(self) -> tuple[LabelledRow, ...]:
        return (*self.old, *self.new)


def gather(store: Store, inputs: Path, order: Order, source: Sequence[LabelledRow]) -> Gathered:
    """The rows of `order`: always the same ones, whenever it is carried out, for as long as samples are kept."""
    samples = [entry.value for entry in store.scan(f"sample/{order.system}/")]
    labelled = [s for s in samples if s.get("truth") and float(str(s.get("truth_at", 0.0))) <= order.until]
    labelled.sort(key=lambda s: (float(str(s["at"])), str(s["request_id"])))
    contents = read_inputs(inputs, order.system, (str(s["request_id"]) for s in labelled))
    rows = [
        (float(str(s["at"])) >= order.since, LabelledRow(id, contents[id], str(s["truth"])))
        for s in labelled
        if (id := str(s["request_id"])) in contents
    ]
    new = [row for is_new, row in rows if is_new]
    held = max(FEWEST_ROWS, len(new) // 3)
    if len(new) < 2 * held:
        raise DataRefused(f"{len(new)} labelled rows since the change are too few, {2 * held} are needed")
    before = [row for is_new, row in rows if not is_new]
    return Gathered((*source, *before), tuple(new[:-held]), tuple(new[-held:]))


def source_rows(app: App, spec: PlatformSpec, root: Path, data_root: Path | None) -> list[LabelledRow]:
    """Readable rows of `data.source`. Raises UserError for a source that a stage of the pipeline makes."""
    assert spec.data is not None, "a model has data"
    source = spec.data.source
    if source.startswith("stage://"):
        raise UserError(f"{source} is made by a stage of the pipeline", remedy="retrain this system by its pipeline")
    source, total = located(source, root=root, data_root=data_root), 0
    found: list[LabelledRow] = []
    for part in app.parts(source, {**spec.data.columns, **spec.data.options}):
        for row in app.rows(part):
            total += len(row.content)
            if total > MOST_OLD_BYTES:
                return found
            if not row.problem:
                found.append(LabelledRow(row.id, row.content, row.label))
    return found


def chosen_window(
    gathered: Gathered, champion: Callable[[Sequence[bytes]], Floats], *, app: App, max_pixels: int
) -> tuple[str, dict[str, float]]:
    """The window whose trial model errs least on the newest rows that it was not fitted to, and the error of each.

    The trial model is linear in the champion's log probabilities and a small picture: it costs seconds where the
    system's own model costs hours, and windows differ in which rows they hold, which any model feels.
    """
    step = max(1, -(-len(gathered.old) // MOST_TRIED))
    rows = (*gathered.old[::step], *gathered.new)
    features = np.concatenate([champion([r.content for r in rows]), _small(app, rows, max_pixels)], axis=1)
    labels = np.array([r.label for r in rows])
    since = len(rows) - len(gathered.new)
    window, errors = choose(
        len(rows),
        since,
        newest=max(1, len(gathered.new) // 2),
        fewest=FEWEST_FITTED,
        errors=lambda w, held: _errors(features, labels, w, held),
    )
    return window.name, errors


def window_rows(gathered: Gathered, name: str) -> list[LabelledRow]:
    """The rows of a window by its name; one that weighs rows less keeps fewer of them, always the same."""
    rows = gathered.fitted
    window = next(w for w in windows(len(rows), len(gathered.old), fewest=FEWEST_FITTED) if w.name == name)
    return [
        rows[i]
        for i, weight in zip(window.rows.tolist(), window.weights.tolist(), strict=True)
        if crc32(rows[i].id.encode()) < weight * 2**32
    ]


def answers_of(predictor: Predictor, app: App, max_pixels: int) -> Callable[[Sequence[bytes]], Floats]:
    """What gives the log probabilities (rows, classes) of encoded rows."""

    def answers(contents: Sequence[bytes]) -> Floats:
        found = []
        for at in range(0, len(contents), 256):
            images = [_decoded(app, content, max_pixels) for content in contents[at : at + 256]]
            found.append(predictor(app.transform(images, predictor.operations)))
        return np.log(np.maximum(np.concatenate(found).astype(np.float64), LEAST_PROBABILITY))

    return answers


def write_rows(path: Path, rows: Sequence[LabelledRow], columns: Mapping[str, str]) -> None:
    """A Parquet file whose bytes depend on the rows alone, there as a whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({
        "id": [row.id for row in rows],
        columns.get("image", "image"): pa.array([row.content for row in rows], pa.binary()),
        columns.get("label", "label"): [row.label for row in rows],
    })  # fmt: skip
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    pq.write_table(table, aside)
    os.replace(aside, path)


def read_rows(path: Path, columns: Mapping[str, str]) -> list[LabelledRow]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    names = ("id", columns.get("image", "image"), columns.get("label", "label"))
    return [LabelledRow(*row) for row in zip(*(table[name].to_pylist() for name in names), strict=True)]


def _errors(features: Floats, labels: NDArray[np.str_], window: Window, held: Rows) -> list[float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen = labels[window.rows]
    if len(set(seen.tolist())) < 2:
        return [float(label != seen[0]) for label in labels[held]]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200, tol=1e-2))
    model.fit(features[window.rows], seen, logisticregression__sample_weight=window.weights)
    return [float(wrong) for wrong in model.predict(features[held]) != labels[held]]


def _small(app: App, rows: Sequence[LabelledRow], max_pixels: int) -> Floats:
    small = [_grey(_decoded(app, row.content, max_pixels)) for row in rows]
    resized = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in small]
    return np.stack(resized).reshape(len(rows), -1).astype(np.float64) / 255.0


def _grey(image: Batch) -> Batch:
    return np.ascontiguousarray(image.mean(axis=2).astype(np.uint8))


def _decoded(app: App, content: bytes, max_pixels: int) -> Batch:
    try:
        return app.decode(content, max_pixels=max_pixels)
    except BadInput:
        return np.zeros((SIDE, SIDE, 3), np.uint8)  # it is quarantined where it is trained on
