"""What one Ray Data task does in preparation: raw rows of some parts in, packed chunks of uint8 rows out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from platformops.apps.contract import App, Batch, Operation, Part, Row
from platformops.apps.load import load_app
from platformops.apps.splits import content_digest, split_of
from platformops.errors import BadInput, DataRefused
from platformops.spec.types import SplitSpec

CHUNK_ROWS = 1024
"""Rows that travel together: 3 MB of 32x32 pixels, and one Ray Data block instead of a thousand."""
RAW_ROWS = 16
"""Test rows a chunk whose raw bytes are kept, to be replayed through the endpoint later."""


@dataclass
class Chunk:
    """Some rows of one split, ready to be written; `images` has shape (rows, height, width, channels)."""

    split: str
    images: Batch
    ids: list[str]
    labels: list[str]
    digests: list[str]
    raw: list[bytes]
    """Encoded bytes of the first rows, of the test split only."""


@dataclass
class Packed:
    """What a task hands to the driver for one chunk of raw rows."""

    chunks: list[Chunk] = field(default_factory=list)
    quarantine: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """A callable for `map_batches`: group numbers in, one packed record a chunk out."""

    app_ref: str
    root: str
    groups: Sequence[Sequence[Part]]
    operations: Sequence[Operation]
    """The leading ones, free of chance."""
    split: SplitSpec
    forced_split: str | None
    max_pixels: int

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        app = load_app(self.app_ref, Path(self.root))
        for number in batch["group"]:
            for part in self.groups[int(number)]:
                for rows in _in_chunks(app.rows(part)):
                    yield pack(self.read(app, rows))

    def read(self, app: App, rows: Sequence[Row]) -> Packed:
        """Decoded, transformed and split; a row that cannot be read is quarantined with its reason."""
        packed, kept = Packed(), {name: _Kept() for name in ("train", "validation", "test")}
        for row in rows:
            try:
                if row.problem:
                    raise BadInput("unreadable", row.problem)
                pixels = app.decode(row.content, max_pixels=self.max_pixels)
                image = app.transform([pixels], self.operations)[0]
            except BadInput as error:
                packed.quarantine.append({"id": row.id, "reason": f"{error.code}: {error.message}"})
                continue
            digest = content_digest(pixels)
            kept[self.forced_split or split_of(digest, self.split)].add(row, image, digest)
        packed.chunks = [rows.chunk(name) for name, rows in kept.items() if rows.images]
        return packed


class _Kept:
    def __init__(self) -> None:
        self.images: list[Batch] = []
        self.rows: list[Row] = []
        self.digests: list[str] = []

    def add(self, row: Row, image: Batch, digest: str) -> None:
        self.images.append(image)
        self.rows.append(row)
        self.digests.append(digest)

    def chunk(self, split: str) -> Chunk:
        shapes = {image.shape for image in self.images}
        if len(shapes) > 1:
            raise DataRefused(
                f"images have different sizes after preparation: {sorted(shapes)[:4]}",
                remedy="add `resize` (and `crop`) to data.prepare, so that all rows have one size",
            )
        raw = [row.content for row in self.rows[:RAW_ROWS]] if split == "test" else []
        ids, labels = [r.id for r in self.rows], [r.label for r in self.rows]
        return Chunk(split, np.stack(self.images), ids, labels, self.digests, raw)


def pack(packed: Packed) -> dict[str, np.ndarray]:
    """One record of a Ray Data block: all pixels and raw bytes in one buffer, the rest as JSON beside it."""
    meta = {
        "quarantine": packed.quarantine,
        "chunks": [
            {
                **{"split": c.split, "shape": c.images.shape, "ids": c.ids, "labels": c.labels},
                **{"digests": c.digests, "raw": [len(r) for r in c.raw]},
            }
            for c in packed.chunks
        ],
    }
    payload = b"".join(part for c in packed.chunks for part in (c.images.tobytes(), *c.raw))
    return {"meta": np.array([json.dumps(meta)], dtype=object), "payload": np.array([payload], dtype=object)}


def unpack(meta: str, payload: bytes) -> Packed:
    """The reverse of `pack`."""
    described, position = json.loads(meta), 0
    packed = Packed(quarantine=described["quarantine"])
    for entry in described["chunks"]:
        size = int(np.prod(entry["shape"]))
        flat = np.frombuffer(payload, dtype=np.uint8, count=size, offset=position)
        position += size
        raw = []
        for length in entry["raw"]:
            raw.append(payload[position : position + length])
            position += length
        images = cast(Batch, flat.reshape(entry["shape"]))
        packed.chunks.append(
            Chunk(entry["split"], images, entry["ids"], entry["labels"], entry["digests"], raw),
        )
    return packed


def _in_chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
