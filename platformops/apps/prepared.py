"""The prepared dataset on disk: uint8 shards that are memory-mapped and read as one array."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from platformops.apps.contract import Batch, Operation, Preparation
from platformops.errors import ArtifactCorrupt
from platformops.store.records import Json

DESCRIPTION = "dataset.json"
QUARANTINE = "quarantine.json"


class ShardedRows:
    """Shards as one uint8 array of shape (rows, height, width, channels); nothing is read before it is asked for."""

    def __init__(self, paths: Sequence[Path], row_shape: tuple[int, int, int]) -> None:
        self._shards = [_open_shard(path) for path in paths]
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self.row_shape: tuple[int, int, int] = self._shards[0].shape[1:] if self._shards else row_shape

    def __len__(self) -> int:
        return int(self._starts[-1])

    def gather(self, indices: NDArray[np.integer]) -> Batch:
        """The rows at `indices`, in that order, as one new array."""
        batch = np.empty((len(indices), *self.row_shape), dtype=np.uint8)
        shard_of = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(shard_of):
            where = np.flatnonzero(shard_of == number)
            batch[where] = self._shards[number][np.asarray(indices)[where] - self._starts[number]]
        return batch

    def slice(self, start: int, stop: int) -> Batch:
        return self.gather(np.arange(start, min(stop, len(self))))


@dataclass(frozen=True)
class PreparedSplit:
    name: str
    images: ShardedRows
    labels: NDArray[np.int64]
    ids_path: Path

    @property
    def rows(self) -> int:
        return len(self.labels)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(json.loads(self.ids_path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class PreparedDataset:
    directory: Path
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    """Of what the model takes; stored rows may be larger, for the random crop that is left."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    operations: tuple[Operation, ...]
    stored_operations: int
    splits: Mapping[str, PreparedSplit]
    quarantined: int
    digest: str

    @property
    def remaining(self) -> tuple[Operation, ...]:
        """Operations that the stored rows still have to go through."""
        return self.operations[self.stored_operations :]


@dataclass(frozen=True, slots=True)
class SplitRows:
    """One split to be written: its shard files (made by `ShardWriter`) and a label and id a row, in their order."""

    shards: Sequence[str]
    labels: Sequence[int]
    ids: Sequence[str]


class ShardWriter:
    """One shard that grows by batches, each on its way to the disk at once; complete once it is closed."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.num_bytes = 0
        self._rows, self._row_shape = 0, (0, 0, 0)
        self._file = open(directory / name, "wb", buffering=0)  # noqa: SIM115 - `close` ends it

    def append(self, images: Batch) -> None:
        if self._rows == 0:
            self._row_shape = images.shape[1:]
            self._write_header()
        self._rows += len(images)
        self.num_bytes += images.nbytes
        rest = np.ascontiguousarray(images).data.cast("B")
        while rest:
            rest = rest[self._file.write(rest) :]

    def close(self) -> None:
        # The header leaves room for any number of rows, so it can be written again in its place.
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        described = {"descr": "|u1", "fortran_order": False, "shape": (self._rows, *self._row_shape)}
        np.lib.format.write_array_header_1_0(self._file, described)


def shard_name(split: str, number: int, piece: int = 0) -> str:
    return f"{split}-{number:05d}{f'-{piece:03d}' if piece else ''}.npy"


def write_shard(directory: Path, split: str, number: int, images: Batch) -> str:
    """The name of the new file in `directory` that holds `images` as they are."""
    shard = ShardWriter(directory, shard_name(split, number))
    shard.append(images)
    shard.close()
    return shard.name


def write_dataset(
    directory: Path,
    *,
    classes: Sequence[str],
    preparation: Preparation,
    mean: Sequence[float],
    std: Sequence[float],
    splits: Mapping[str, SplitRows],
    quarantine: Sequence[Mapping[str, str]],
    digest: str,
) -> None:
    """All files of the layout but the shards. `quarantine` entries are {"id", "reason"}."""
    described: dict[str, Json] = {}
    for name, split in splits.items():
        np.save(directory / f"{name}-labels.npy", np.asarray(split.labels, dtype=np.int64), allow_pickle=False)
        _write_json(directory / f"{name}-ids.json", list(split.ids))
        described[name] = {"rows": len(split.labels), "shards": list(split.shards)}
    _write_json(directory / QUARANTINE, [dict(entry) for entry in quarantine])
    description: dict[str, Json] = {
        "classes": list(classes),
        "input_shape": list(preparation.input_shape),
        "mean": list(mean),
        "std": list(std),
        "operations": declared(preparation.operations),
        "stored_operations": preparation.stored_operations,
        "splits": described,
        "quarantined": len(quarantine),
        "digest": digest,
    }
    _write_json(directory / DESCRIPTION, description)


def open_prepared(directory: Path) -> PreparedDataset:
    """The dataset in `directory`; raises ArtifactCorrupt where files and description disagree."""
    description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    height, width, channels = description["input_shape"]
    splits = {name: _open_split(directory, name, entry) for name, entry in description["splits"].items()}
    return PreparedDataset(
        directory=directory,
        classes=tuple(description["classes"]),
        input_shape=(height, width, channels),
        mean=tuple(description["mean"]),
        std=tuple(description["std"]),
        operations=operations_from(description["operations"]),
        stored_operations=description["stored_operations"],
        splits=splits,
        quarantined=description["quarantined"],
        digest=description["digest"],
    )


def declared(operations: Sequence[Operation]) -> list[Json]:
    """Operations as they are written in a spec and in JSON: one mapping of one key each."""
    return [{operation.name: operation.value} for operation in operations]


def operations_from(entries: Sequence[Mapping[str, Json]]) -> tuple[Operation, ...]:
    """The reverse of `declared`."""
    return tuple(Operation(name, value) for entry in entries for name, value in entry.items())


def _open_split(directory: Path, name: str, entry: Mapping[str, Json]) -> PreparedSplit:
    paths = [directory / str(shard) for shard in cast(Sequence[str], entry["shards"])]
    images = ShardedRows(paths, (0, 0, 0))
    labels = np.load(directory / f"{name}-labels.npy", allow_pickle=False)
    if not len(images) == len(labels) == entry["rows"]:
        raise ArtifactCorrupt(
            f"{directory}: split {name} says {entry['rows']} rows and has {len(images)} images and {len(labels)} labels"
        )
    return PreparedSplit(name, images, labels, directory / f"{name}-ids.json")


def _open_shard(path: Path) -> Batch:
    try:
        shard = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise ArtifactCorrupt(f"{path}: cannot be read as an array: {exc}") from exc
    if shard.dtype != np.uint8 or shard.ndim != 4:
        raise ArtifactCorrupt(f"{path}: has type {shard.dtype} and {shard.ndim} dimensions, not uint8 and 4")
    return cast(Batch, shard)


def _write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
