"""Directories in which artifacts are written aside: locked while their writer lives, swept once it is dead."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path

from platformops.errors import PlatformError

FILES = "files"


class Staging:
    """`<folder>/<fingerprint>-<random>/files`; a process that is killed leaves nothing that lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[Path, int] = {}

    def make(self, fingerprint: str) -> Path:
        """A fresh empty directory, after what dead writers of the same fingerprint left was removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(f"{fingerprint}-*"):
            _remove_if_dead(left)
        while True:
            container = self._folder / f"{fingerprint}-{secrets.token_hex(8)}"
            container.mkdir()
            if self._lock(container):
                (container / FILES).mkdir()
                return container / FILES

    def container_of(self, staging: Path) -> Path:
        """The directory around the one that `make` gave; raises PlatformError for any other."""
        if staging.name != FILES or staging.parent.parent != self._folder or not staging.is_dir():
            raise PlatformError(f"{staging} was not made by staging()", remedy="publish the directory that it gave")
        return staging.parent

    def release(self, container: Path) -> None:
        fd = self._locks.pop(container, None)
        if fd is not None:
            os.close(fd)

    def discard(self, container: Path) -> None:
        shutil.rmtree(container, ignore_errors=True)  # what resists is swept when it is next made
        self.release(container)

    def _lock(self, container: Path) -> bool:
        """False when a sweep came between the making and the locking."""
        fd = _locked(container)
        if fd is None:
            return False
        if not container.exists():
            os.close(fd)
            return False
        self._locks[container] = fd
        return True


def _remove_if_dead(container: Path) -> None:
    fd = _locked(container)
    if fd is not None:
        shutil.rmtree(container, ignore_errors=True)
        os.close(fd)


def _locked(container: Path) -> int | None:
    """An open descriptor that holds the lock; None when another process holds it, or the directory is gone."""
    try:
        fd = os.open(container, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
