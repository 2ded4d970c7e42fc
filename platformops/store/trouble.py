"""Says in words, with the place, what the operating system or a remote store answered with a number."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformops.errors import DiskFull, PlatformError
from platformops.store.room import disk_of, in_bytes

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_SAID = {
    errno.ENOSPC: ("the disk is full", "free space there; nothing half written is visible"),
    errno.EDQUOT: ("the disk quota is used up", "free space there; nothing half written is visible"),
    errno.EROFS: ("the file system is read-only", "mount it writable, or name another place"),
    errno.EACCES: ("this user may not", "change the owner or the mode of that place"),
    errno.EPERM: ("this user may not", "change the owner or the mode of that place"),
    errno.EIO: ("the disk failed", "check the disk, then try again"),
    errno.ENOTDIR: ("a part of the path is a file", "name another place"),
    errno.EMFILE: ("too many files are open", "raise the limit: ulimit -n"),
    errno.ENFILE: ("too many files are open on this machine", "raise the limit: sysctl fs.file-max"),
}


@contextmanager
def named(place: str, doing: str, *, at: Path | None = None) -> Iterator[None]:
    """Turns an OSError into a PlatformError that names what was being done, where, and what to do about it.

    A full disk becomes DiskFull; with `at`, a path on it, the disk is named and what is free there.
    """
    try:
        yield
    except OSError as exc:
        what, remedy = _SAID.get(exc.errno or 0, (exc.strerror or str(exc) or type(exc).__name__, None))
        path = f" ({exc.filename})" if exc.filename else ""
        if exc.errno in NO_SPACE:
            raise DiskFull(f"{place}: {doing} failed: {what}{path}{_disk(at)}", remedy=remedy) from exc
        raise PlatformError(f"{place}: {doing} failed: {what}{path}", remedy=remedy) from exc


def require_room(place: str, needed_bytes: int, *, at: Path) -> None:
    """Raises DiskFull, naming the disk and what is missing, unless `needed_bytes` fit there now."""
    disk = disk_of(at)
    if disk.free_bytes < needed_bytes:
        missing = in_bytes(needed_bytes - disk.free_bytes)
        raise DiskFull(
            f"{place}: {disk}, and {in_bytes(needed_bytes)} are needed",
            remedy=f"free {missing} or more there, and run again: what was written before is kept",
        )


def _disk(at: Path | None) -> str:
    if at is not None:
        with suppress(OSError):  # a disk that cannot even be asked: the failure itself has been said
            return f"; {disk_of(at)}"
    return ""
