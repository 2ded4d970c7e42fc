"""Checks a safetensors file by its header and size before any library parses it."""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from platformops.errors import ArtifactCorrupt

MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 16
MAX_SIDE = 2**40
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FINITE: Mapping[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
BF16_BITS: np.dtype[Any] = np.dtype("<u2")
SAFE_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
CHUNK_ITEMS = 4 * 1024 * 1024


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Lets what the disk answered be an OSError again, which safetensors tells in words only."""
    try:
        yield
    except SafetensorError as exc:
        number = re.search(r"\(os error (\d+)\)", str(exc))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from exc


def check_weights(path: Path) -> Mapping[str, tuple[str, tuple[int, ...]]]:
    """Tensor name -> (type, shape) of a sound file: its tensors fill it without gap, overlap or rest, and are finite.

    Raises ArtifactCorrupt for anything else: another format (a pickle, say), a header of more than 4 MiB or 20,000
    tensors, a cut or lengthened file, shapes that do not fit their bytes, doubled or odd names, NaN or infinity.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else MAX_HEADER_BYTES + 1
        if length > MAX_HEADER_BYTES or length + 8 > size:
            raise ArtifactCorrupt(f"{path}: not a safetensors file, or its header is cut off or above 4 MiB")
        raw = file.read(length)
    entries = _entries(path, raw)
    described = {name: _checked(path, name, entry) for name, entry in entries.items()}
    _check_layout(path, entries, described, data_bytes=size - 8 - length)
    for name, (kind, _) in described.items():
        if kind in FINITE or kind == "BF16":
            start, stop = entries[name]["data_offsets"]
            _check_finite(path, name, kind, 8 + length + start, stop - start)
    return described


def _entries(path: Path, raw: bytes) -> dict[str, dict[str, list[int]]]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            raise ValueError("a name appears twice")
        return dict(pairs)

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as exc:
        raise ArtifactCorrupt(f"{path}: the safetensors header is not sound JSON: {exc}") from None
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise ArtifactCorrupt(f"{path}: the safetensors header is no mapping of at most {MAX_TENSORS} tensors")
    header.pop("__metadata__", None)
    return header


def _checked(path: Path, name: str, entry: object) -> tuple[str, tuple[int, ...]]:
    if not name or len(name) > 512 or not SAFE_NAME.issuperset(name) or ".." in name:
        raise ArtifactCorrupt(f"{path}: {name[:80]!r} is no name of a tensor")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ArtifactCorrupt(f"{path}: tensor {name} is not described by dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind not in ITEM_BYTES:
        raise ArtifactCorrupt(f"{path}: tensor {name} has type {str(kind)[:20]!r}, not one of {sorted(ITEM_BYTES)}")
    if not _numbers(shape, MAX_DIMENSIONS) or not _numbers(offsets, 2) or len(offsets) != 2:
        raise ArtifactCorrupt(f"{path}: tensor {name} has no sound shape or offsets")
    if math.prod(shape) * ITEM_BYTES[kind] != offsets[1] - offsets[0]:
        raise ArtifactCorrupt(
            f"{path}: tensor {name} of shape {shape} does not fit its {offsets[1] - offsets[0]} bytes"
        )
    return kind, tuple(shape)


def _numbers(value: object, longest: int) -> bool:
    if not isinstance(value, list) or len(value) > longest:
        return False
    return all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_SIDE for n in value)


def _check_layout(
    path: Path,
    entries: Mapping[str, Mapping[str, list[int]]],
    described: Mapping[str, tuple[str, tuple[int, ...]]],
    *,
    data_bytes: int,
) -> None:
    at = 0
    for name in sorted(described, key=lambda n: entries[n]["data_offsets"]):
        start, stop = entries[name]["data_offsets"]
        if start != at:
            raise ArtifactCorrupt(f"{path}: tensor {name} starts at byte {start}, not {at}: a gap or an overlap")
        at = stop
    if at != data_bytes:
        raise ArtifactCorrupt(f"{path}: tensors cover {at} bytes and the file has {data_bytes} for them")


def _check_finite(path: Path, name: str, kind: str, offset: int, size_bytes: int) -> None:
    if not size_bytes:
        return
    stored = BF16_BITS if kind == "BF16" else FINITE[kind]
    values = np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=(size_bytes,)).view(stored)
    for at in range(0, len(values), CHUNK_ITEMS):
        chunk = values[at : at + CHUNK_ITEMS]
        # bfloat16 is the upper half of float32: all exponent bits set means infinity or NaN.
        finite = (chunk & 0x7F80) != 0x7F80 if kind == "BF16" else np.isfinite(chunk)
        if not finite.all():
            raise ArtifactCorrupt(f"{path}: tensor {name} has values that are infinite or no numbers")
