"""What one Ray Data task does in preparation: raw rows of some parts in, finished uint8 shards of each split out.

Pixels go from the decoder to the shard on disk and never through the object store; what travels is a line a row.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from platformops.apps.contract import App, Batch, Operation, Part, Row
from platformops.apps.load import load_app
from platformops.apps.prepared import ShardWriter, shard_name
from platformops.apps.scanning import flagged
from platformops.apps.splits import SPLITS, Split, content_digest, split_of
from platformops.errors import BadInput, DataRefused, StageFailed
from platformops.on_ray.priority import give_way
from platformops.spec.types import SplitSpec

BATCH_BYTES = 256 * 1024
"""Decoded pixels that are transformed together: enough to share the cost of a call, and still in a core's cache."""
SHARD_BYTES = 256 * 1024 * 1024
RAW_ROWS = 64
"""Test rows whose raw bytes are kept, to be replayed through the endpoint later; any group may be the only one."""


@dataclass
class Written:
    """Rows of one split that a task has put on disk, in the order of the source."""

    split: str
    shards: list[str] = field(default_factory=list)
    """Files in the output directory."""
    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    """Of the decoded pixels, of the test split only: what is trained on must not be among them."""
    content: str = ""
    """Digest of the digests of all rows."""
    sums: list[list[float]] = field(default_factory=list)
    """Sums and sums of squares a channel, pixels on the 0 to 1 scale; of the training split only."""
    pixels: int = 0
    raw: list[bytes] = field(default_factory=list)
    """Encoded bytes of the first rows, of the test split only."""


@dataclass
class Packed:
    """What a task hands to the driver for one group of parts."""

    written: list[Written] = field(default_factory=list)
    quarantine: list[dict[str, str]] = field(default_factory=list)
    dropped: int = 0
    """Rows whose pixels are in the test split already."""
    flagged: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Reader:
    """A callable for `map_batches`: group numbers in, one packed record a group out, shards in `output`."""

    app_ref: str
    root: str
    output: str
    groups: Sequence[Sequence[Part]]
    first: int
    """Number that the shards of the first group bear."""
    operations: Sequence[Operation]
    """The leading ones, free of chance."""
    split: SplitSpec
    forced_split: Split | None
    excluded: frozenset[str]
    """Digests of rows that are left out."""
    max_pixels: int

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        give_way()
        # Each task has a core of its own: OpenCV's threads would only wait for one another.
        cv2.setNumThreads(1)
        app = load_app(self.app_ref, Path(self.root))
        for number in batch["group"]:
            with _no_collections():
                packed = pack(self.read(app, int(number)))
            yield packed

    def read(self, app: App, group: int) -> Packed:
        """Everything of a group decoded, split, transformed and written; what cannot be read is quarantined."""
        if not Path(self.output).is_dir():
            raise StageFailed(
                "a preparation task does not see the output folder: the nodes do not share the folder of the home",
                remedy="put PLATFORMOPS_HOME on a folder that every node sees",
            )
        packed = Packed()
        splits = {name: _Split(self, app, name, group, packed.quarantine) for name in SPLITS}
        rows = itertools.chain.from_iterable(map(app.rows, self.groups[group]))
        self._sort(app, rows, splits, packed)
        for split in splits.values():
            split.close()
            if split.written.ids:
                packed.written.append(split.written)
                packed.flagged.update(flagged({*split.written.ids, *split.written.labels}))
        return packed

    def _sort(self, app: App, rows: Iterable[Row], splits: Mapping[Split, _Split], packed: Packed) -> None:
        """Each row that can be read into its split."""
        decode, max_pixels, excluded, shares = app.decode, self.max_pixels, self.excluded, self.split
        for row in rows:
            try:
                if row.problem:
                    raise BadInput("unreadable", row.problem)
                pixels = decode(row.content, max_pixels=max_pixels)
            except BadInput as error:
                packed.quarantine.append(_reason(row, error))
                continue
            digest = content_digest(pixels)
            if digest in excluded:
                packed.dropped += 1
            else:
                splits[self.forced_split or split_of(digest, shares)].add(pixels, row, digest)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Rows are freed as they are done with, and looking for cycles among them takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Split:
    """One split of a group while it is being written: each batch goes to disk, so memory stays bounded."""

    def __init__(self, reader: Reader, app: App, name: Split, group: int, quarantine: list[dict[str, str]]) -> None:
        self.written = Written(name)
        self._reader, self._app, self._quarantine = reader, app, quarantine
        self._number = reader.first + group
        self._shard: ShardWriter | None = None
        self._row_shape: tuple[int, ...] = ()
        self._images: list[Batch] = []
        self._rows: list[Row] = []
        self._digests: list[str] = []
        self._waiting_bytes = 0
        self._content = hashlib.sha256()

    def add(self, pixels: Batch, row: Row, digest: str) -> None:
        self._images.append(pixels)
        self._rows.append(row)
        self._digests.append(digest)
        self._waiting_bytes += pixels.nbytes
        if self._waiting_bytes >= BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """All rows are on disk, and `written` tells of them."""
        self._flush()
        self._end_shard()
        self.written.content = self._content.hexdigest()

    def _flush(self) -> None:
        if not self._images:
            return
        batch, refused = _transformed(self._app, self._images, self._reader.operations)
        rows, digests = self._rows, self._digests
        if refused:
            self._quarantine += [_reason(rows[at], error) for at, error in refused.items()]
            kept = [at for at in range(len(rows)) if at not in refused]
            rows, digests = [rows[at] for at in kept], [digests[at] for at in kept]
        if batch is not None:
            self._write(batch)
            self._note(rows, digests)
        self._images, self._rows, self._digests, self._waiting_bytes = [], [], [], 0

    def _write(self, batch: Batch) -> None:
        self._row_shape = self._row_shape or batch.shape[1:]
        if batch.shape[1:] != self._row_shape:
            raise _sizes_differ({self._row_shape, batch.shape[1:]})
        if self._shard is None:
            name = shard_name(self.written.split, self._number, piece=len(self.written.shards))
            self._shard = ShardWriter(Path(self._reader.output), name)
        self._shard.append(batch)
        if self.written.split == "train":
            self.written.sums = _added(self.written.sums, channel_sums(batch))
            self.written.pixels += batch.size // batch.shape[-1]
        if self._shard.num_bytes >= SHARD_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self.written.shards.append(self._shard.name)
            self._shard = None

    def _note(self, rows: Sequence[Row], digests: Sequence[str]) -> None:
        written = self.written
        written.ids += [row.id for row in rows]
        written.labels += [row.label for row in rows]
        self._content.update("".join(digests).encode())
        if written.split == "test":
            written.digests += digests
            written.raw += [row.content for row in rows[: RAW_ROWS - len(written.raw)]]


def channel_sums(images: Batch) -> list[list[float]]:
    """Sums and sums of squares a channel, pixels on the 0 to 1 scale; exact to the last digits of a float64."""
    rows = images.reshape(-1, 1, images.shape[-1])
    means, deviations = (found.ravel() / 255 for found in cv2.meanStdDev(rows))
    return [(means * len(rows)).tolist(), ((deviations**2 + means**2) * len(rows)).tolist()]


def _added(sums: list[list[float]], more: list[list[float]]) -> list[list[float]]:
    return (np.array(sums) + np.array(more)).tolist() if sums else more


def _transformed(
    app: App, images: Sequence[Batch], operations: Sequence[Operation]
) -> tuple[Batch | None, dict[int, BadInput]]:
    """The batch of all images that can be transformed, and why the others cannot."""
    try:
        return app.transform(images, operations), {}
    except (BadInput, ValueError):  # numpy's, where results have several sizes: which, is found out below
        pass
    good: list[Batch] = []
    refused: dict[int, BadInput] = {}
    for at, image in enumerate(images):
        try:
            good.append(app.transform([image], operations)[0])
        except BadInput as error:
            refused[at] = error
    if len({image.shape for image in good}) > 1:
        raise _sizes_differ({image.shape for image in good})
    return (np.stack(good) if good else None), refused


def _sizes_differ(shapes: set[tuple[int, ...]]) -> DataRefused:
    return DataRefused(
        f"images have different sizes after preparation: {sorted(shapes)[:4]}",
        remedy="add `resize` (and `crop`) to data.prepare, so that all rows have one size",
    )


def _reason(row: Row, error: BadInput) -> dict[str, str]:
    return {"id": row.id, "reason": f"{error.code}: {error.message}"}


def pack(packed: Packed) -> dict[str, np.ndarray]:
    """One record of a Ray Data block: raw bytes in one buffer, the rest as JSON beside it."""
    raw = [content for written in packed.written for content in written.raw]
    entries = [{**vars(written), "raw": [len(content) for content in written.raw]} for written in packed.written]
    meta = {**vars(packed), "written": entries}
    return {"meta": np.array([json.dumps(meta)], dtype=object), "payload": np.array([b"".join(raw)], dtype=object)}


def unpack(meta: str, payload: bytes) -> Packed:
    """The reverse of `pack`."""
    described, position = json.loads(meta), 0
    for entry in described["written"]:
        lengths, entry["raw"] = entry["raw"], []
        for length in lengths:
            entry["raw"].append(payload[position : position + length])
            position += length
    written = [Written(**entry) for entry in described["written"]]
    return Packed(written, described["quarantine"], described["dropped"], Counter(described["flagged"]))
