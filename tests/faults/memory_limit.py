"""A ceiling on the memory of a process and its children: over it, the kernel's out-of-memory killer comes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup/memory")


@cache
def why_not() -> str:
    """Why no memory group can be made here; empty where one can."""
    if not (GROUPS / "memory.limit_in_bytes").exists():
        return "there is no memory controller of cgroup version 1"
    try:
        with memory_limit(1 << 26):
            return ""
    except OSError as error:
        return f"no memory group can be made: {error.strerror}"


class MemoryLimit:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, pid: int) -> None:
        """That process and what it starts from now on live under the ceiling."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How often the out-of-memory killer came."""
        lines = (self.folder / "memory.oom_control").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


@contextmanager
def memory_limit(size_bytes: int) -> Iterator[MemoryLimit]:
    """A group of at most `size_bytes`, no swap; what still lives in it at the end goes back to where it came from."""
    folder = GROUPS / f"platformops-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(size_bytes))
        with suppress(OSError):  # only where swap is counted
            (folder / "memory.memsw.limit_in_bytes").write_text(str(size_bytes))
        yield MemoryLimit(folder)
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (GROUPS / "cgroup.procs").write_text(pid)
        folder.rmdir()
