"""Remembers the digests of files that have not changed, so that a cached run does not read gigabytes again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from platformops.clock import Clock
from platformops.store.records import JsonObject, Put, Store

FORMAT = "digest 1"
"""Part of every remembered key; change it whenever the meaning of a digest changes."""
SETTLED_S = 2.0
"""A file written this shortly ago may change again within the grain of its time stamps, so it is not remembered."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file system says of a file without reading it; ctime cannot be set back by `touch` or `cp -p`."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def text(self) -> str:
        return f"{self.size_bytes} {self.mtime_ns} {self.ctime_ns} {self.inode}"

    def is_settled(self, now_s: float) -> bool:
        return max(self.mtime_ns, self.ctime_ns) < (now_s - SETTLED_S) * 1e9


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class DigestMemory:
    """Keeps JSON under `digest/<digest of the place>` in the store; losing it costs time, never correctness."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def is_settled(self, stamp: Stamp) -> bool:
        return stamp.is_settled(self._clock.now())

    def recall(self, kind: str, place: Path) -> JsonObject | None:
        entry = self._store.get(_key(kind, place))
        return entry.value if entry else None

    def remember(self, found: Mapping[tuple[str, Path], JsonObject]) -> None:
        """All of `found`, (kind, place) -> value, in one commit; what was there before is replaced."""
        if found:
            self._store.commit([Put(_key(kind, place), value, None) for (kind, place), value in found.items()])


def _key(kind: str, place: Path) -> str:
    text = f"{FORMAT} {kind} ".encode() + os.fsencode(os.path.abspath(place))
    return f"digest/{hashlib.sha256(text).hexdigest()}"
