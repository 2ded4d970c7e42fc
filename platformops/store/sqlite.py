"""The embedded store: one SQLite file in WAL mode, for many threads and processes of one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from platformops.store.records import Entry, JsonObject, Put
from platformops.store.rows import (
    AFTER_ALL,
    Row,
    Write,
    checked_key,
    entry_of,
    rows_of,
    versions_of,
    writes_of,
)
from platformops.store.sqlite_file import BUSY_TIMEOUT_S, Lane, StoreFile

_SELECT = "SELECT key, value, version, checksum FROM entries"
_UPSERT = """INSERT INTO entries (key, value, version, checksum) VALUES (?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, checksum = excluded.checksum"""
_COUNT = "UPDATE commits SET number = number + 1 RETURNING number"


class SqliteStore:
    """Opens, and on first use creates, the file; its folder must exist. Raises StoreUnavailable."""

    def __init__(self, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        file = StoreFile(path.absolute(), busy_timeout_s)
        self._place, self._witness = file.place, file.witness
        self._reader, self._writer = Lane(file), Lane(file)  # while a write waits for another process, reads go on
        with self._reader.connection() as connection:
            file.check(connection)

    def get(self, key: str) -> Entry | None:
        with self._reader.connection() as connection:
            found = connection.execute(f"{_SELECT} WHERE key = ?", (checked_key(key),)).fetchone()
        return entry_of(Row(*found), place=self._place) if found else None

    def scan(self, prefix: str, *, limit: int | None = None, descending: bool = False) -> Sequence[Entry]:
        query = f"""{_SELECT} WHERE key >= ? AND key < ? AND value IS NOT NULL
            ORDER BY key {"DESC" if descending else "ASC"} LIMIT ?"""
        bounds = (prefix, prefix + AFTER_ALL, -1 if limit is None else limit)
        with self._reader.connection() as connection:
            found = connection.execute(query, bounds).fetchall()
        return tuple(entry for row in found if (entry := entry_of(Row(*row), place=self._place)))

    def put(self, key: str, value: JsonObject, *, expect: int | None) -> int:
        return self.commit([Put(key, value, expect)])[0]

    def commit(self, puts: Sequence[Put]) -> tuple[int, ...]:
        writes = writes_of(puts)
        with self._writer.connection() as connection, _transaction(connection):
            rows = rows_of(writes, self._there(connection, writes))
            connection.executemany(_UPSERT, [(row.key, row.value, row.version, row.checksum) for row in rows])
            ((commits,),) = connection.execute(_COUNT).fetchall()
        self._witness.remember(commits)
        return versions_of(rows)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _there(self, connection: sqlite3.Connection, writes: Sequence[Write]) -> dict[str, Row]:
        found = (connection.execute(f"{_SELECT} WHERE key = ?", (write.key,)).fetchone() for write in writes)
        there = [Row(*row) for row in found if row]
        for row in there:
            entry_of(row, place=self._place)  # a damaged version must not be counted on from
        return {row.key: row for row in there}


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Holds the write lock from the first read on, so that what was read is what is replaced."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
