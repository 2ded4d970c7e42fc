"""What a store keeps for a key: JSON text, version and a checksum; and what a write makes of it, or the conflict."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from platformops.errors import StoreConflict, StoreError, StoreUnavailable
from platformops.store.records import ABSENT, Entry, Json, JsonObject, Put

AFTER_ALL = "\U0010ffff"
"""No key holds this character, so `prefix + AFTER_ALL` is behind every key that starts with `prefix`."""
LONGEST_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    value: str | None
    """None for a deleted key: the row stays, so that its versions go on and a stale writer never matches again."""
    version: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Write:
    """A put that was found well-formed, its value already text."""

    key: str
    value: str | None
    expect: int | None


def writes_of(puts: Sequence[Put]) -> list[Write]:
    """The puts as text; raises StoreError for a bad key, a value that is not JSON, or a key written twice."""
    writes = [Write(checked_key(put.key), _text(put), put.expect) for put in puts]
    if len({write.key for write in writes}) < len(writes):
        raise StoreError(f"one commit writes a key twice: {sorted(write.key for write in writes)}")
    return writes


def rows_of(writes: Sequence[Write], there: Mapping[str, Row]) -> list[Row]:
    """The rows to store over those that are `there`; raises StoreConflict before anything is written."""
    for write in writes:
        found = _version(there.get(write.key))
        if write.expect is not None and write.expect != found:
            raise StoreConflict(
                f"{write.key} is {_said(found)}, not {_said(write.expect)}", remedy="read it again and retry"
            )
    return [_row(write, there.get(write.key)) for write in writes]


def versions_of(rows: Sequence[Row]) -> tuple[int, ...]:
    """What `commit` answers."""
    return tuple(_version(row) for row in rows)


def entry_of(row: Row, *, place: str) -> Entry | None:
    """The entry that people see, None for a deleted one; raises StoreUnavailable when a byte of the row changed."""
    if checksum(row.key, row.value, row.version) != row.checksum:
        raise StoreUnavailable(
            f"{place}: the entry {row.key} is damaged: its checksum does not match",
            remedy="check the disk and restore the store from a backup",
        )
    return None if row.value is None else Entry(row.key, json.loads(row.value), row.version)


def checksum(key: str, value: str | None, version: int) -> int:
    return zlib.crc32(f"{key}\n{version}\n{'' if value is None else value}".encode())


def checked_key(key: str) -> str:
    """The key itself; raises StoreError for one that not every store could keep and order in the same way."""
    if not key or len(key.encode("utf-8", "replace")) > LONGEST_KEY_BYTES:
        raise StoreError(f"a key has 1 to {LONGEST_KEY_BYTES} bytes, not {key[:80]!r}")
    if not key.isprintable():
        raise StoreError(f"the key {key!r} holds a character that does not print")
    return key


def migrations_after(found: int, known: int, *, place: str) -> range:
    """Indexes of the migrations still to be made; raises StoreUnavailable when the store is newer than this program."""
    if found > known:
        raise StoreUnavailable(
            f"{place} was written by a newer PlatformOps (schema {found}, this one knows {known})",
            remedy="upgrade this PlatformOps, or use another store",
        )
    return range(found, known)


def plain(value: Json) -> Json:
    """The same value made of dict, list and scalars; raises TypeError or ValueError for what JSON cannot hold."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a JSON number")
        return value
    if isinstance(value, Mapping):
        return {_name(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [plain(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} is not JSON")


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the name {key!r} is not a string")
    return key


def _text(put: Put) -> str | None:
    if put.value is None:
        return None
    try:
        return _json(put.value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise StoreError(f"the value for {put.key} cannot be kept: {exc}") from exc


def _json(value: JsonObject) -> str:
    if not isinstance(value, Mapping):
        raise TypeError(f"{type(value).__name__} is not a JSON object")
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False)


def _row(write: Write, there: Row | None) -> Row:
    version = (there.version if there else 0) + 1
    return Row(write.key, write.value, version, checksum(write.key, write.value, version))


def _version(row: Row | None) -> int:
    return ABSENT if row is None or row.value is None else row.version


def _said(version: int) -> str:
    return "absent" if version == ABSENT else f"at version {version}"
