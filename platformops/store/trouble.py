"""Says in words, with the place, what the operating system or a remote store answered with a number."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from platformops.errors import PlatformError

_SAID = {
    errno.ENOSPC: ("the disk is full", "free space there; nothing half written is visible"),
    errno.EDQUOT: ("the disk quota is used up", "free space there; nothing half written is visible"),
    errno.EROFS: ("the file system is read-only", "mount it writable, or name another place"),
    errno.EACCES: ("this user may not", "change the owner or the mode of that place"),
    errno.EPERM: ("this user may not", "change the owner or the mode of that place"),
    errno.EIO: ("the disk failed", "check the disk, then try again"),
    errno.ENOTDIR: ("a part of the path is a file", "name another place"),
    errno.EMFILE: ("too many files are open", "raise the limit: ulimit -n"),
}


@contextmanager
def named(place: str, doing: str) -> Iterator[None]:
    """Turns an OSError into a PlatformError that names what was being done, where, and what to do about it."""
    try:
        yield
    except OSError as exc:
        what, remedy = _SAID.get(exc.errno or 0, (exc.strerror or str(exc) or type(exc).__name__, None))
        at = f" ({exc.filename})" if exc.filename else ""
        raise PlatformError(f"{place}: {doing} failed: {what}{at}", remedy=remedy) from exc
