"""Opens a file that somebody named, and nothing but a file: never a pipe, a device or a folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def plain_file(path: Path, *, follow_link: bool = True) -> Iterator[BinaryIO]:
    """The regular file at `path`, opened to read; raises OSError that says in `strerror` why it is none."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "not the name of a file", str(path))
    # Without O_NONBLOCK, opening a pipe would wait for its writer for ever.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_link else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def size_bytes(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
