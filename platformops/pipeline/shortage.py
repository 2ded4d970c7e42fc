"""A disk that was full while a step ran, and when trying again is worth it."""

from __future__ import annotations

from dataclasses import dataclass

from platformops.store.room import Disk, in_bytes

PAUSE_S = 24 * 3600.0
"""How long a step waits for room before its run fails: a person comes by at least once a day."""
LOOK_AT_DISK_S = 2.0
LEAST_BYTES, FEW_INODES = 1_000_000, 10
"""Less than this comes and goes by itself on any disk."""
SHARE_RATIO = 0.125
"""Of what the step had written: with the disk being freed bit by bit, it is tried eight times at most."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """What was free on the disk once all that the attempt had written there was removed: that was not enough."""

    folder: str
    free_bytes: int
    free_inodes: int | None
    written_bytes: int

    @property
    def wanted_bytes(self) -> int:
        """As much more must be free, at least."""
        return max(LEAST_BYTES, int(self.written_bytes * SHARE_RATIO))

    def is_over(self, disk: Disk) -> bool:
        if self.free_inodes is not None and disk.free_inodes is not None and self.free_inodes < FEW_INODES:
            return disk.free_inodes >= 2 * self.free_inodes + FEW_INODES
        return disk.free_bytes >= self.free_bytes + self.wanted_bytes

    def __str__(self) -> str:
        return f"goes on by itself once {in_bytes(self.wanted_bytes)} or more are freed there"
