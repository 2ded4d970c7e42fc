"""What was asked, kept beside what was answered: for systems that learn from it, as files under three limits."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

MOST_ITEM_BYTES = 1024 * 1024
"""A larger input is not kept."""
MOST_FRESH_BYTES = 16 * 1024 * 1024
"""In memory between two flushes, of all systems."""
MOST_BYTES = 256 * 1024 * 1024
"""On disk, of one system; the oldest go first."""


class Inputs:
    """`<folder>/<system>/<request id>`, for this user only. Kept on the gateway's loop, written from another thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        """Held for no longer than a look at what is kept: the loop never waits for the disk."""
        self._fresh: dict[tuple[str, str], bytes] = {}
        self._fresh_bytes = 0
        self.systems: frozenset[str] = frozenset()
        """Whose inputs are kept; replaced as a whole."""

    def keep(self, system: str, request_id: str, content: bytes) -> None:
        """The request that was just sampled, if its system wants it and the limits allow it."""
        if system not in self.systems or len(content) > MOST_ITEM_BYTES:
            return
        with self._lock:
            if self._fresh_bytes + len(content) <= MOST_FRESH_BYTES:
                self._fresh[system, request_id] = content
                self._fresh_bytes += len(content)

    def flush(self) -> None:
        """What was kept is on disk on return, as far as there is room: inputs are worth less than answers."""
        with self._lock:
            fresh, self._fresh, self._fresh_bytes = self._fresh, {}, 0
        with suppress(OSError):
            for (system, request_id), content in fresh.items():
                _write(self._folder / system / request_id, content)

    def sweep(self, oldest: float) -> None:
        """Files written before `oldest` are gone on return, and then the oldest of each system beyond its bytes."""
        with suppress(OSError):
            for folder in [f for f in self._folder.iterdir() if f.is_dir()]:
                for path in _surplus(folder, oldest):
                    path.unlink(missing_ok=True)


def read_inputs(folder: Path, system: str, ids: Iterable[str]) -> Mapping[str, bytes]:
    """The inputs of these requests, of those that are still kept."""
    found: dict[str, bytes] = {}
    for id in ids:
        with suppress(OSError):
            found[id] = (folder / system / id).read_bytes()
    return found


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _surplus(folder: Path, oldest: float) -> list[Path]:
    newest_first = sorted(((s.st_mtime, s.st_size, p) for p in folder.iterdir() if (s := p.stat())), reverse=True)
    surplus, total = [], 0
    for written_at, size, path in newest_first:
        total += size
        if written_at < oldest or total > MOST_BYTES:
            surplus.append(path)
    return surplus
