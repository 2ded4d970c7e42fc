"""What one replica does: loads a verified model once, answers items in batches, and knows when it is stuck."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from platformops.apps.contract import App, Batch
from platformops.apps.load import load_app
from platformops.clock import Clock
from platformops.delivery.records import Revision
from platformops.errors import BadInput
from platformops.frameworks.records import Predictor
from platformops.frameworks.torch import load_predictor
from platformops.gateway.call import Answer
from platformops.spec.types import ServeSpec
from platformops.store.artifacts import Artifacts

APP_FILE = "app.py"
"""Beside the model where the app is a file of the user's own."""
MAX_MESSAGE_CHARS = 200
TOO_LARGE = frozenset({"too_many_pixels"})
STUCK_TIMEOUTS = 3.0
"""A batch older than this many deadlines will be answered to nobody: the replica is stuck."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
NOT_FINITE = Answer(500, code="model_output_invalid", message="the model gave no finite answer for this image")


@dataclass(frozen=True, slots=True)
class Served:
    """A model and the functions around it."""

    app: App
    predictor: Predictor
    version_name: str
    max_pixels: int


def load(revision: Revision, limits: ServeSpec, artifacts: Artifacts, *, threads: int) -> Served:
    """The model of `revision`, every byte verified, having predicted once. Raises ArtifactCorrupt or AppError."""
    directory = artifacts.open(revision.artifact, revision.manifest_digest)
    app = _app_of(directory)
    predictor = load_predictor(directory, runtime=limits.runtime, threads=threads, app=app)
    for rows in (1, min(8, limits.batch)):  # the first prediction of a runtime allocates; no client should wait for it
        predictor(np.zeros((rows, *predictor.params.input_shape), dtype=np.uint8))
    return Served(app, predictor, revision.version_name, limits.max_pixels)


def _app_of(directory: Path) -> App:
    if (directory / APP_FILE).is_file():
        return load_app(APP_FILE, directory)
    described = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    return load_app(str(described["app"]), directory)


def answer(served: Served, items: Sequence[bytes]) -> list[Answer]:
    """One answer an item; an item that cannot be read costs the others nothing."""
    decode = partial(served.app.decode, max_pixels=served.max_pixels)
    decoded = [_attempt(partial(decode, item)) for item in items]
    good = [image for image in decoded if not isinstance(image, Answer)]
    predicted = iter(_predict(served, good)) if good else iter(())
    return [one if isinstance(one, Answer) else next(predicted) for one in decoded]


def _predict(served: Served, images: Sequence[Batch]) -> list[Answer]:
    """Answers for decoded images: together, and one by one when a shape among them cannot be transformed."""
    operations = served.predictor.operations
    batch = _attempt(partial(served.app.transform, images, operations))
    if isinstance(batch, Answer):
        return [batch] if len(images) == 1 else [_predict(served, [image])[0] for image in images]
    outputs = served.predictor(batch)
    finite = [bool(np.isfinite(row).all()) for row in outputs]
    encoded = served.app.encode(np.nan_to_num(outputs), served.predictor.classes)
    return [
        Answer(200, json.dumps(one, allow_nan=False).encode("ascii"), model_version=served.version_name)
        if is_finite
        else NOT_FINITE
        for one, is_finite in zip(encoded, finite, strict=True)
    ]


def _attempt(step: Callable[[], Batch]) -> Batch | Answer:
    try:
        return step()
    except BadInput as bad:
        status = 413 if bad.code in TOO_LARGE else 422
        return Answer(status, code=bad.code, message=bad.message[:MAX_MESSAGE_CHARS])


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


class Workload:
    """What a replica has in hand, for health and autoscaling; counted in one thread, read in another."""

    def __init__(self, clock: Clock, *, timeout_s: float) -> None:
        self._clock = clock
        self._stuck_after_s = STUCK_TIMEOUTS * timeout_s
        self._since: dict[int, float] = {}
        self._num_batches = 0
        self._peak_items = 0
        self._peak_queued = 0
        self._items = 0

    def begin(self, num_items: int, queued: int) -> int:
        """A ticket for a batch that has arrived."""
        self._num_batches += 1
        self._since[self._num_batches] = self._clock.monotonic()
        self._items += num_items
        self._peak_items = max(self._peak_items, self._items)
        self._peak_queued = max(self._peak_queued, queued)
        return self._num_batches

    def end(self, ticket: int, num_items: int) -> None:
        del self._since[ticket]
        self._items -= num_items

    def peaks(self) -> tuple[int, int]:
        """Most items in hand and most items queued behind them since the last call."""
        peaks = (max(self._peak_items, self._items), self._peak_queued)
        self._peak_items, self._peak_queued = self._items, 0
        return peaks

    def stuck_s(self) -> float | None:
        """Age of the oldest batch when it is past any deadline; None while the replica is well."""
        oldest = min(self._since.values(), default=None)
        age_s = self._clock.monotonic() - oldest if oldest is not None else 0.0
        return age_s if age_s > self._stuck_after_s else None
