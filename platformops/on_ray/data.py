"""Preparation on Ray Data: the raw source in, memory-mappable uint8 shards of three splits out."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import ray

from platformops.apps.contract import App, Batch, Part, Preparation
from platformops.apps.load import load_app
from platformops.apps.prepared import SplitRows, write_dataset
from platformops.apps.splits import SPLITS, Split
from platformops.errors import BadInput, DataRefused
from platformops.on_ray.avoiding import selector
from platformops.on_ray.gang_places import kept_off
from platformops.on_ray.grouping import grouped
from platformops.on_ray.read import RAW_ROWS, Packed, Reader, Written, unpack
from platformops.on_ray.session import capacities
from platformops.on_ray.tickets import task_cpus
from platformops.spec.types import CheckSpec, SplitSpec
from platformops.store.records import Json, JsonObject

SAMPLE_ROWS = 32
NO_PROGRESS_S = 120


@dataclass(frozen=True)
class Request:
    """What `data` of the spec asks for, with data:// already resolved."""

    app: str
    root: Path
    source: str
    test: str | None
    split: SplitSpec
    operations: Sequence[Mapping[str, Json]]
    check: CheckSpec
    options: JsonObject


@dataclass
class _Split:
    """What all tasks wrote of one split, in the order of the source."""

    shards: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    raw: list[tuple[str, str, bytes]] = field(default_factory=list)
    sums: list[list[list[float]]] = field(default_factory=list)
    pixels: int = 0

    def add(self, written: Written) -> None:
        self.shards += written.shards
        self.labels += written.labels
        self.ids += written.ids
        room = RAW_ROWS - len(self.raw)
        self.raw += list(zip(written.ids, written.labels, written.raw, strict=False))[:room]
        self.pixels += written.pixels
        if written.sums:
            self.sums.append(written.sums)

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation a channel, on the 0 to 1 scale."""
        mean, square = np.sum(self.sums, axis=0) / self.pixels
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-8))
        return [float(x) for x in mean], [float(x) for x in deviation]


def prepare(request: Request, output: Path, progress: Callable[[float | None, str], None]) -> JsonObject:
    """Writes the prepared dataset to `output` and returns its counts. Raises DataRefused with figures and reasons."""
    app = load_app(request.app, request.root)
    parts = app.parts(request.source, request.options)
    test_parts = app.parts(request.test, request.options) if request.test else ()
    samples = _samples(app, parts, request.check.max_pixels)
    preparation = app.settle(app.operations(request.operations), samples)
    row_bytes = sum(sample.nbytes for sample in samples) // len(samples)
    splits: dict[str, _Split] = {name: _Split() for name in SPLITS}
    quarantine: list[dict[str, str]] = []
    digest, dropped, suspicious = hashlib.sha256(), 0, Counter[str]()
    in_test: set[str] = set()
    test_groups, groups = grouped(test_parts, row_bytes), grouped(parts, row_bytes)
    # Groups are numbered through, as their shards share a folder.
    stages: list[tuple[list[list[Part]], int, Split | None]] = [(groups, len(test_groups), None)]
    if test_groups:
        stages.insert(0, (test_groups, 0, "test"))
    for its_groups, first, forced in stages:
        reader = _reader(request, preparation, output, its_groups, first, forced, in_test)
        for packed in _read(reader, request.check, quarantine, progress):
            dropped += packed.dropped
            suspicious.update(packed.flagged)
            for written in packed.written:
                splits[written.split].add(written)
                digest.update(written.content.encode())
                if forced == "test":
                    in_test.update(written.digests)
    if suspicious:
        progress(None, "names and labels hold " + ", ".join(f"{n} x {kind}" for kind, n in suspicious.items()))
    counts = _finish(request, preparation, splits, quarantine, digest.hexdigest(), output)
    return {**counts, "duplicates_dropped": dropped, "flagged": dict(suspicious)}


def _reader(
    request: Request,
    preparation: Preparation,
    output: Path,
    groups: Sequence[Sequence[Part]],
    first: int,
    forced_split: Split | None,
    excluded: set[str],
) -> Reader:
    return Reader(
        app_ref=request.app,
        root=str(request.root),
        output=str(output),
        groups=groups,
        first=first,
        operations=preparation.operations[: preparation.stored_operations],
        split=request.split,
        forced_split=forced_split,
        excluded=frozenset(excluded),
        max_pixels=request.check.max_pixels,
    )


def _read(
    reader: Reader,
    check: CheckSpec,
    quarantine: list[dict[str, str]],
    progress: Callable[[float | None, str], None],
) -> Iterator[Packed]:
    """What was written of each group, in the order of the source, by tasks all over the cluster."""
    _configure()
    groups = len(reader.groups)
    dataset = ray.data.from_items([{"group": i} for i in range(groups)], override_num_blocks=groups)
    rows = 0
    cpus = task_cpus(capacities())
    read = dataset.map_batches(
        reader, batch_size=1, num_cpus=cpus, label_selector=selector(kept_off({"CPU": cpus})) or None
    )
    for record in read.iter_rows():
        packed = unpack(record["meta"], record["payload"])
        quarantine += packed.quarantine
        rows += sum(len(written.ids) for written in packed.written)
        progress(None, f"{rows} rows read" + (f", {len(quarantine)} quarantined" if quarantine else ""))
        _refuse_early(check, rows, quarantine)
        yield packed


def _configure() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    context.retried_map_errors = []


def _samples(app: App, parts: Sequence[Part], max_pixels: int) -> list[Batch]:
    """The first readable images of the source: enough to see their channels and size."""
    samples: list[Batch] = []
    for row in itertools.islice((row for part in parts for row in app.rows(part)), SAMPLE_ROWS * 8):
        if not row.problem and len(samples) < SAMPLE_ROWS:
            try:
                samples.append(app.decode(row.content, max_pixels=max_pixels))
            except BadInput:
                continue
    if not samples:
        raise DataRefused("the source has no readable row", remedy="check data.source and data.columns")
    return samples


def _refuse_early(check: CheckSpec, rows: int, quarantine: Sequence[Mapping[str, str]], *, least: int = 2000) -> None:
    """Ends a hopeless reading after `least` rows instead of after all of them."""
    total = rows + len(quarantine)
    if total >= least and len(quarantine) > 2 * check.missing_ratio * total:
        _refuse_quarantine(check, total, quarantine)


def _refuse_quarantine(check: CheckSpec, total: int, quarantine: Sequence[Mapping[str, str]]) -> None:
    first = "; ".join(f"{entry['id']}: {entry['reason']}" for entry in quarantine[:3])
    raise DataRefused(
        f"{len(quarantine)} of {total} rows cannot be read ({len(quarantine) / total:.1%}, "
        f"allowed {check.missing_ratio:.1%}): {first}",
        remedy="repair the rows, or raise data.check.missing_ratio to go on without them",
    )


def _finish(
    request: Request,
    preparation: Preparation,
    splits: Mapping[str, _Split],
    quarantine: Sequence[Mapping[str, str]],
    digest: str,
    output: Path,
) -> dict[str, Json]:
    rows = sum(len(split.ids) for split in splits.values())
    if len(quarantine) > request.check.missing_ratio * (rows + len(quarantine)):
        _refuse_quarantine(request.check, rows + len(quarantine), quarantine)
    classes = _classes(splits)
    mean, std = splits["train"].statistics()
    numbers = {name: number for number, name in enumerate(classes)}
    write_dataset(
        output,
        classes=classes,
        preparation=preparation,
        mean=preparation.mean or mean,
        std=preparation.std or std,
        splits={
            name: SplitRows(split.shards, [numbers[label] for label in split.labels], split.ids)
            for name, split in splits.items()
        },
        quarantine=quarantine,
        digest=digest,
    )
    _write_raw_rows(output, splits["test"], numbers)
    counts: dict[str, Json] = {name: len(split.ids) for name, split in splits.items()}
    return counts | {"quarantined": len(quarantine), "classes": list(classes)}


def _classes(splits: Mapping[str, _Split]) -> list[str]:
    """All class names, numbers in numerical order. Raises DataRefused where a split or class cannot be used."""
    empty = [name for name in SPLITS if not splits[name].ids]
    if empty:
        counts = ", ".join(f"{name} {len(splits[name].ids)}" for name in SPLITS)
        raise DataRefused(
            f"split {empty[0]} has no rows ({counts})", remedy="give it a larger share in data.split, or more rows"
        )
    trained = set(splits["train"].labels)
    if len(trained) < 2:
        raise DataRefused(
            f"the train split has {len(trained)} class: {sorted(trained)}", remedy="a classifier needs two"
        )
    unknown = sorted((set(splits["validation"].labels) | set(splits["test"].labels)) - trained)
    if unknown:
        raise DataRefused(
            f"classes {unknown[:5]} have no row in the train split", remedy="add rows of them, or remove them"
        )
    return sorted(trained, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))


def _write_raw_rows(output: Path, test: _Split, numbers: Mapping[str, int]) -> None:
    """Some test rows as they came, to be sent through the real endpoint later."""
    contents = [raw for _, _, raw in test.raw]
    np.savez(
        output / "raw-test-rows.npz",
        content=np.frombuffer(b"".join(contents), dtype=np.uint8),
        offsets=np.cumsum([0, *(len(content) for content in contents)]),
        labels=np.array([numbers[label] for _, label, _ in test.raw], dtype=np.int64),
        ids=np.array([row_id for row_id, _, _ in test.raw]),
    )
