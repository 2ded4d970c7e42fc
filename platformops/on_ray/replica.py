"""What one replica does: loads a verified model once, answers items in batches, and knows when it is stuck."""

from __future__ import annotations

import json
import math
import os
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from platformops.apps.contract import App, Batch
from platformops.apps.load import load_app
from platformops.apps.splits import content_digest
from platformops.clock import Clock, SystemClock
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
MAX_DECODED_BYTES = 64 * 1024 * 1024
STUCK_TIMEOUTS = 3.0
"""A batch older than this many deadlines will be answered to nobody: the replica is stuck."""
SHORT_ITEMS, SHORT_BYTES, SHORT_S = 8, 256 * 1024, 0.02
"""A batch up to which handing over to another thread and back, 0.1 ms, is worth saving."""
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


class Times:
    """Where the time of one batch went, and how much of it a CPU worked on it."""

    __slots__ = ("_clock", "cpu_s", "decode_s", "model_s", "transform_s")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.decode_s = self.transform_s = self.model_s = self.cpu_s = 0.0

    def now_s(self) -> float:
        return self._clock.monotonic()

    def reading(self) -> tuple[float, float]:
        """Instant, and CPU seconds of this thread so far."""
        used = resource.getrusage(resource.RUSAGE_THREAD)
        return self.now_s(), used.ru_utime + used.ru_stime


def answer(served: Served, items: Sequence[bytes], took: Times | None = None) -> list[Answer]:
    """One answer an item; an item that cannot be read costs the others nothing. `took` is filled in."""
    took = took or Times(SystemClock())
    begin_s, begin_cpu_s = took.reading()
    rows = [row for decoded in _in_bounds(_decoded(served, items, took)) for row in _transformed(served, decoded)]
    ready_s = took.now_s()
    good = [row for row in rows if not isinstance(row, Answer)]
    predicted = iter(_predict(served, np.stack(good))) if good else iter(())
    end_s, end_cpu_s = took.reading()
    took.transform_s, took.model_s = max(0.0, ready_s - begin_s - took.decode_s), end_s - ready_s
    took.cpu_s = end_cpu_s - begin_cpu_s
    return [row if isinstance(row, Answer) else next(predicted) for row in rows]


def digests(served: Served, items: Sequence[bytes]) -> list[str]:
    """Of what each item is made before the model; empty for one that cannot be read."""
    took = Times(SystemClock())
    rows = [row for one in _decoded(served, items, took) for row in _transformed(served, [one])]
    return ["" if isinstance(row, Answer) else content_digest(row) for row in rows]


def _decoded(served: Served, items: Sequence[bytes], took: Times) -> Iterator[Batch | Answer]:
    for item in items:
        begin_s = took.now_s()
        decoded = _attempt(partial(served.app.decode, item, max_pixels=served.max_pixels))
        took.decode_s += took.now_s() - begin_s
        yield decoded


def _in_bounds(decoded: Iterable[Batch | Answer]) -> Iterator[list[Batch | Answer]]:
    """Neighbours together until their pixels take MAX_DECODED_BYTES: a few kilobytes each may hold 75 MB of them."""
    together: list[Batch | Answer] = []
    num_bytes = 0
    for one in decoded:
        together.append(one)
        num_bytes += 0 if isinstance(one, Answer) else one.nbytes
        if num_bytes >= MAX_DECODED_BYTES:
            yield together
            together, num_bytes = [], 0
    if together:
        yield together


def _transformed(served: Served, decoded: Sequence[Batch | Answer]) -> list[Batch | Answer]:
    """Rows for the model: made together, and one by one when a shape among them cannot be transformed."""
    images = [image for image in decoded if not isinstance(image, Answer)]
    batch = _attempt(partial(served.app.transform, images, served.predictor.operations)) if images else ()
    if isinstance(batch, Answer):
        if len(decoded) == 1:
            return [batch]
        return [row for one in decoded for row in _transformed(served, [one])]
    rows = iter(batch)
    return [one if isinstance(one, Answer) else next(rows) for one in decoded]


def _predict(served: Served, batch: Batch) -> list[Answer]:
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


class Pace:
    """How long items have taken here, so that a batch which is soon done need not change threads."""

    def __init__(self) -> None:
        self._item_s = math.inf

    def is_short(self, items: Sequence[bytes]) -> bool:
        """Whether the batch is small, and by the slowest of late likely to be done before anybody misses the loop."""
        small = len(items) <= SHORT_ITEMS and sum(map(len, items)) <= SHORT_BYTES
        return small and len(items) * self._item_s <= SHORT_S

    def note(self, num_items: int, seconds: float) -> None:
        """A batch took that long: slow ones count at once, and are forgotten over some twenty."""
        item_s = seconds / max(1, num_items)
        faded_s = item_s if math.isinf(self._item_s) else self._item_s + 0.1 * (item_s - self._item_s)
        self._item_s = max(item_s, faded_s)


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
        self._tickets = 0
        self._peak_items = 0
        self._peak_queued = 0
        self._items = 0

    def begin(self, num_items: int, queued: int) -> int:
        """A ticket for a batch that has arrived."""
        self._tickets += 1
        self._since[self._tickets] = self._clock.monotonic()
        self._items += num_items
        self._peak_items = max(self._peak_items, self._items)
        self._peak_queued = max(self._peak_queued, queued)
        return self._tickets

    def end(self, ticket: int, num_items: int) -> None:
        del self._since[ticket]
        self._items -= num_items

    @property
    def num_batches(self) -> int:
        """In hand now."""
        return len(self._since)

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
