"""The number of commits that a store has acknowledged, kept beside it: one that knows of fewer has lost some.

SQLite takes a damaged write-ahead log for one whose last write was cut off, and goes on without what is behind the
damage; a deleted file it takes for a new store. Neither is an error to it, so somebody else has to remember.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path


class Witness:
    """`<store>-commits`: never ahead of the store, and behind it only by what was committed at the last instant.

    It is not synced, as a sync would double the cost of a write: after a power cut it may remember less, never more.
    """

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(f"{store.name}-commits")

    def commits(self) -> int:
        """What was last remembered; 0 when there is nothing, or nothing sound, to read."""
        try:
            number, checksum = self.path.read_bytes().split()
            return int(number) if int(checksum) == zlib.crc32(number) else 0
        except (OSError, ValueError):
            return 0

    def remember(self, commits: int) -> None:
        number = b"%020d" % commits
        with suppress(OSError):  # the write it speaks of is durable: that must not become a failure
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.pwrite(fd, b"%s %010d\n" % (number, zlib.crc32(number)), 0)
            finally:
                os.close(fd)
