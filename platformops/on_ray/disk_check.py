"""How the disk of a node is: its free room, and how long a small write takes to become durable."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from platformops.clock import Clock
from platformops.health.vitals import DISK_FREE, FSYNC, INODES_FREE

EVERY_S = 15.0
BLOCK = bytes(4096)


class DiskCheck:
    """A disk that hangs holds up its own thread and nothing else; how long it has been hanging is then the reading."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._thread: threading.Thread | None = None
        self._began_s = -EVERY_S
        self._last_s: float | None = None

    def readings(self) -> Mapping[str, float | None]:
        """Free shares, and seconds of the last fsync; None where the folder is gone."""
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return {DISK_FREE: None, INODES_FREE: None, FSYNC: None}
        return {
            DISK_FREE: disk.f_bavail / disk.f_blocks if disk.f_blocks else None,
            INODES_FREE: disk.f_favail / disk.f_files if disk.f_files else None,
            FSYNC: self._fsync_s(),
        }

    def _fsync_s(self) -> float | None:
        now = self._clock.monotonic()
        if self._thread is not None and self._thread.is_alive():
            return max(now - self._began_s, self._last_s or 0.0)
        if now - self._began_s >= EVERY_S:
            self._began_s = now
            self._thread = threading.Thread(target=self._write, daemon=True)
            self._thread.start()
        return self._last_s

    def _write(self) -> None:
        path = self._folder / f".platformops-probe-{os.getpid()}"
        began_s = self._clock.monotonic()
        with suppress(OSError):  # a full disk is told by its free share
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                path.unlink()
                os.write(descriptor, BLOCK)
                os.fsync(descriptor)
                self._last_s = self._clock.monotonic() - began_s
            finally:
                os.close(descriptor)
