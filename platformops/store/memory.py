"""A store in this process's memory: the fake that passes the contract suite of the real ones."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from platformops.store.records import Entry, JsonObject, Put
from platformops.store.rows import Row, checked_key, entry_of, rows_of, versions_of, writes_of


class MemoryStore:
    """Usable from several threads; gone with the process."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Entry | None:
        row = self._rows.get(checked_key(key))
        return entry_of(row, place="memory") if row else None

    def scan(self, prefix: str, *, limit: int | None = None, descending: bool = False) -> Sequence[Entry]:
        with self._lock:
            rows = [row for key, row in self._rows.items() if key.startswith(prefix)]
        rows.sort(key=lambda row: row.key, reverse=descending)
        entries = [entry for row in rows if (entry := entry_of(row, place="memory"))]
        return tuple(entries[:limit])

    def put(self, key: str, value: JsonObject, *, expect: int | None) -> int:
        return self.commit([Put(key, value, expect)])[0]

    def commit(self, puts: Sequence[Put]) -> tuple[int, ...]:
        writes = writes_of(puts)
        with self._lock:
            rows = rows_of(writes, self._rows)
            self._rows |= {row.key: row for row in rows}
        return versions_of(rows)

    def close(self) -> None:
        pass
