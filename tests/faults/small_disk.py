"""A small disk of its own: to be filled up, to run out of inodes, to become read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

BALLAST = "ballast"


@cache
def why_not() -> str:
    """Why no disk can be mounted here; empty where one can."""
    if os.getuid() != 0 or shutil.which("mount") is None:
        return "only root can mount a small disk"
    with TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
        if done.returncode:
            return "mounting is not allowed here"
        subprocess.run(["umount", "-l", folder], check=True)
    return ""


class SmallDisk:
    def __init__(self, root: Path) -> None:
        self.root = root

    def free_bytes(self) -> int:
        stats = os.statvfs(self.root)
        return stats.f_bavail * stats.f_frsize

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Takes all space but `leave_bytes`."""
        with (self.root / BALLAST).open("ab", buffering=0) as file:
            while (size := min(self.free_bytes() - leave_bytes, 1 << 20)) >= 4096:
                file.write(b"\0" * size)

    def use_up_inodes(self, *, leave: int = 0) -> None:
        folder = self.root / f"{BALLAST}-inodes"
        folder.mkdir(exist_ok=True)
        for number in range(os.statvfs(self.root).f_favail - leave):
            (folder / str(number)).touch()

    def free(self) -> None:
        """Takes back what `fill` and `use_up_inodes` did."""
        (self.root / BALLAST).unlink(missing_ok=True)
        shutil.rmtree(self.root / f"{BALLAST}-inodes", ignore_errors=True)

    def remount(self, options: str) -> None:
        """`ro`, `rw`, `size=2m`..."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.root)], check=True)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[SmallDisk]:
    """A disk at `folder`, which is made; `options` as `size=2m` or `size=2m,nr_inodes=64`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
