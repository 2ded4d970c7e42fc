"""Parquet files with encoded images in a column: a file, a folder, a pattern, or an fsspec URL of these."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from platformops.apps.contract import Part, Row
from platformops.errors import DataRefused
from platformops.store.records import Json

LABELS = ("label_name", "label", "class")
"""Columns that are tried for the label, in this order: a name tells people more than a number."""
IDS = ("id", "file", "file_name", "path")
MAX_LABEL_CHARS = 200
BATCH_ROWS = (64, 1024)
"""Rows that are made Python values at once, at least and at most: each batch costs as much as fifty small rows."""
BATCH_BYTES = 256 * 1024 * 1024
"""Of one batch at most, should each row hold as much as its row group: dictionaries may repeat a value."""
MIN_IMAGE_BYTES = 43
"""The smallest image there is, a GIF of one pixel: a row cannot hold less."""
MAX_EXPANSION = 100
"""Decoded bytes for each stored byte; more is a bomb. Images are compressed already, so honest files stay near 1."""
FREE_BYTES = 64 * 1024 * 1024
"""Decoded bytes that no expansion limit applies to."""


def is_table(source: str) -> bool:
    """Whether the source is Parquet: by its name, or by what is directly in the folder."""
    if ".parquet" in source.rsplit("/", 1)[-1]:
        return True
    try:
        filesystem, path = fsspec.core.url_to_fs(source)
        return not any(c in path for c in "*?[") and bool(filesystem.glob(path.rstrip("/") + "/*.parquet"))
    except (OSError, ValueError, ImportError) as exc:
        raise DataRefused(f"{source}: cannot be read: {exc}") from exc


def table_parts(source: str, options: Mapping[str, Json]) -> Sequence[Part]:
    """One part a row group, files in name order. Raises DataRefused for files that claim more than they can hold."""
    parts: list[Part] = []
    for url in _files(source):
        with fsspec.open(url, "rb") as file:
            try:
                metadata = pq.ParquetFile(file)
            except (pa.ArrowException, OSError) as exc:
                raise DataRefused(f"{url}: not a readable Parquet file: {exc}", remedy="write it again") from exc
            columns = _columns(url, metadata.schema_arrow, options)
            start = 0
            for group in range(metadata.num_row_groups):
                rows = metadata.metadata.row_group(group).num_rows
                _refuse_bomb(url, metadata.metadata.row_group(group), columns)
                if rows:
                    parts.append(Part(url, start, start + rows, columns=columns))
                start += rows
    return parts


def table_rows(part: Part) -> Iterator[Row]:
    """Rows `start` to `stop` of a file, read row group by row group in small batches."""
    with fsspec.open(part.uri, "rb") as opened:
        file = pq.ParquetFile(opened)
        ids = next((name for name in IDS if name in file.schema_arrow.names), None)
        wanted = [*part.columns, *([ids] if ids else [])]
        at, budget = 0, FREE_BYTES
        for group in range(file.num_row_groups):
            described = file.metadata.row_group(group)
            if at < (part.stop or file.metadata.num_rows) and at + described.num_rows > part.start:
                budget += MAX_EXPANSION * described.total_byte_size
                for rows in _group_rows(file, group, at, wanted, part):
                    budget -= sum(len(row.content) for row in rows)
                    if budget < 0:
                        raise DataRefused(f"{part.uri}: holds more than {MAX_EXPANSION} times its bytes")
                    yield from rows
            at += described.num_rows


def _group_rows(file: pq.ParquetFile, group: int, at: int, wanted: Sequence[str], part: Part) -> Iterator[list[Row]]:
    """The rows of a row group that are in the part, a batch at a time; `at` is the number of its first row."""
    source, size = part.uri.rsplit("/", 1)[-1], _batch_rows(file.metadata.row_group(group))
    try:
        for batch in file.iter_batches(size, row_groups=[group], columns=list(dict.fromkeys(wanted))):
            skipped = max(0, part.start - at)
            inside = batch.slice(skipped, max(0, (part.stop or file.metadata.num_rows) - at - skipped))
            contents, labels, *ids = (inside.column(name).to_pylist() for name in wanted)
            names = ids[0] if ids else [None] * len(contents)
            yield [
                Row(str(name), content, str(label))
                if type(content) is bytes and label is not None and name is not None
                else _row(f"{source}:{number}" if name is None else str(name), content, label)
                for number, (name, content, label) in enumerate(zip(names, contents, labels, strict=True), at + skipped)
            ]
            at += batch.num_rows
    except (pa.ArrowException, OSError) as exc:
        raise DataRefused(f"{part.uri}: row group {group} is damaged: {exc}", remedy="write the file again") from exc


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    fewest, most = BATCH_ROWS
    return max(fewest, min(most, BATCH_BYTES // max(1, int(group.total_byte_size))))


def _row(name: str, content: object, label: object) -> Row:
    if isinstance(content, dict):  # the image type of some libraries: {"bytes", "path"}
        content = content.get("bytes")
    problem = _problem_of(label)
    if problem:
        return Row(name, b"", "", problem=problem)
    if not isinstance(content, bytes):
        return Row(name, b"", str(label), problem="has no image bytes")
    return Row(name, content, str(label))


def _problem_of(label: object) -> str:
    """Why this is the name of no class; empty when it is one."""
    if label is None:
        return "has no label"
    if isinstance(label, float) and not math.isfinite(label):
        return f"has the label {label}, which is not a number"
    return f"has a label of more than {MAX_LABEL_CHARS} characters" if len(str(label)) > MAX_LABEL_CHARS else ""


def _columns(url: str, schema: pa.Schema, options: Mapping[str, Json]) -> tuple[str, str]:
    image = str(options.get("image", "image"))
    label = str(options["label"]) if "label" in options else next((n for n in LABELS if n in schema.names), LABELS[1])
    for name in (image, label):
        if name not in schema.names:
            raise DataRefused(
                f"{url}: has no column {name!r} (it has {schema.names})",
                remedy="name the columns: data.columns: {image: ..., label: ...}",
            )
    if not _holds_bytes(schema.field(image).type):
        raise DataRefused(f"{url}: column {image!r} holds {schema.field(image).type}, not encoded image bytes")
    if not _holds_labels(schema.field(label).type):
        raise DataRefused(
            f"{url}: column {label!r} holds {schema.field(label).type}, not names or numbers of classes",
            remedy="name another column: data.columns: {label: ...}",
        )
    return image, label


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind.fields)
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _holds_labels(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_labels(kind.value_type)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(
        is_text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )  # fmt: skip


def _refuse_bomb(url: str, group: pq.RowGroupMetaData, columns: tuple[str, str]) -> None:
    """By the file's own description, before any of it is read."""
    chunks = [group.column(index) for index in range(group.num_columns)]
    mine = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]
    stored = sum(chunk.total_compressed_size for chunk in mine)
    decoded = max(sum(chunk.total_uncompressed_size for chunk in mine), group.num_rows * MIN_IMAGE_BYTES)
    if decoded > FREE_BYTES and decoded > MAX_EXPANSION * stored:
        raise DataRefused(
            f"{url}: {stored} bytes claim {group.num_rows} rows of at least {decoded} bytes",
            remedy=f"a source may expand {MAX_EXPANSION} times; split it into honest files",
        )


def _files(source: str) -> Sequence[str]:
    filesystem, path = fsspec.core.url_to_fs(source)
    if any(c in path for c in "*?["):
        found = filesystem.glob(path)
    elif filesystem.isdir(path):
        found = filesystem.glob(path.rstrip("/") + "/*.parquet")
    else:
        found = [path] if filesystem.exists(path) else []
    if not found:
        raise DataRefused(f"{source}: no such Parquet file", remedy="check the path in data.source")
    local = "://" not in source
    return [name if local else cast(str, filesystem.unstrip_protocol(name)) for name in sorted(found)]
