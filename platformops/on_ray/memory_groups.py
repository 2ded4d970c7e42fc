"""The control group that bounds the memory of a process, as a container does: its limit, and what of it is in use."""

from __future__ import annotations

from pathlib import Path

GROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")
FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Of version 2 and of version 1: the kernel's cgroup-v2.rst and cgroup-v1/memory.rst."""


def group_of(pid: int) -> Path | None:
    """Its folder; None where there is none that can be read."""
    for line in text_of(PROC / str(pid) / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers in ("", "memory"):
            root = GROUPS / controllers
            # Inside a container the path may be that of its host, and the group is the root that it sees.
            for folder in (root / path.lstrip("/"), root):
                if any((folder / limit).exists() for limit, _ in FILES):
                    return folder
    return None


def memory_texts(folder: Path) -> tuple[str, str, str]:
    """Limit, use and statistics as the kernel writes them; empty for what it does not."""
    for limit, used in FILES:
        if text := text_of(folder / limit):
            return text, text_of(folder / used), text_of(folder / "memory.stat")
    return "", "", ""


def text_of(path: Path) -> str:
    """What the kernel's file says; empty for one that cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
