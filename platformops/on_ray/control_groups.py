"""The control groups that bound a process, as a container does: limits and use, by the kernel's files."""

from __future__ import annotations

from pathlib import Path

GROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")
MEMORY_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
QUOTA_FILES = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
"""Of version 2 and of version 1: the kernel's cgroup-v2.rst, cgroup-v1/memory.rst and sched-bwc.rst."""
LIMITS = {"memory": tuple(limit for limit, _ in MEMORY_FILES), "cpu": tuple(files[0] for files in QUOTA_FILES)}


def group_of(pid: int, controller: str = "memory") -> Path | None:
    """Folder of the group that bounds the process's `memory` or `cpu`; None where there is none that can be read."""
    for line in text_of(PROC / str(pid) / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "" or controller in controllers.split(","):
            # Version 1 may mount controllers together, under either name.
            for root in (GROUPS / controllers, GROUPS / (controller if controllers else "")):
                # Inside a container the path may be that of its host, and the group is the root that it sees.
                for folder in (root / path.lstrip("/"), root):
                    if any((folder / limit).exists() for limit in LIMITS[controller]):
                        return folder
    return None


def memory_texts(folder: Path) -> tuple[str, str, str]:
    """Limit, use and statistics as the kernel writes them; empty for what it does not."""
    for limit, used in MEMORY_FILES:
        if text := text_of(folder / limit):
            return text, text_of(folder / used), text_of(folder / "memory.stat")
    return "", "", ""


def quota_texts(folder: Path) -> tuple[str, str]:
    """`quota period` in microseconds, as version 2 writes it, and statistics; empty for what the kernel does not."""
    for files in QUOTA_FILES:
        if texts := [text.strip() for name in files if (text := text_of(folder / name))]:
            return " ".join(texts), text_of(folder / "cpu.stat")
    return "", ""


def text_of(path: Path) -> str:
    """What the kernel's file says; empty for one that cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
