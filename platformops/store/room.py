"""Which disk a path lies on and what is free there, for people who have to make room."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Disk:
    mount: Path
    free_bytes: int
    """For this user."""
    size_bytes: int
    free_inodes: int | None
    """None where the file system does not count them."""

    def __str__(self) -> str:
        if self.free_inodes is not None and self.free_inodes < 1 <= self.free_bytes:
            return f"the disk at {self.mount} has no inode left for another file"
        return f"the disk at {self.mount} has {in_bytes(self.free_bytes)} of {in_bytes(self.size_bytes)} free"


def disk_of(path: Path) -> Disk:
    """The disk on which `path` is, or would be; raises OSError when even its parents cannot be looked at."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    stats, mount = os.statvfs(there), there
    while not mount.is_mount():
        mount = mount.parent
    inodes = stats.f_favail if stats.f_files else None
    return Disk(mount, stats.f_bavail * stats.f_frsize, stats.f_blocks * stats.f_frsize, inodes)


def fullest(paths: Iterable[Path]) -> Disk:
    """Of the disks of some paths, the one with the least room."""
    disks = [disk_of(path) for path in paths]
    return min(disks, key=lambda disk: (disk.free_bytes if disk.free_inodes != 0 else 0, str(disk.mount)))


def bytes_below(folder: Path) -> int:
    """Of all files in `folder`, as they are counted by their readers; what goes meanwhile counts nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except FileNotFoundError:
                continue
    return total


def in_bytes(size: int) -> str:
    """`512 B`, `1.5 MB`: powers of 1000, as disks are sold."""
    number, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{size} B" if unit == "B" else f"{number:.1f} {unit}"
