"""Commands under way, so that one whose process was killed is finished by the keeper, and by nobody twice.

An errand is a file that its process holds locked for as long as it lives: the kernel lets go of the lock however the
process ends, also by a power cut. A file that is there and not locked is work that nobody does.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from platformops.errors import PlatformError
from platformops.keeper.records import Left

KEPT_NAMES = ("PLATFORMOPS_DATA", "PYTHONPATH", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")
"""Of the environment; no name that may hold a secret, as the file outlives the process."""
TAKEN_UP = "PLATFORMOPS_ERRAND"
"""Tells the process that the keeper starts which errand it is on."""


@dataclass(frozen=True, slots=True)
class Errand:
    arguments: tuple[str, ...]
    """Of the command line, with absolute paths."""
    folder: str
    environment: Mapping[str, str]
    resumed: int = 0
    resumed_at: float = 0.0


class ErrandTaken(PlatformError):
    """Another process is on this errand, or has ended it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"errand {name} is another's, or ended", remedy="nothing is to be done")


@contextmanager
def on_errand(folder: Path, errand: Errand, *, taken_up: str = "") -> Iterator[Path]:
    """Holds the errand's file until the work has ended, in whatever way this process can see; then it is gone.

    `taken_up` is the id of a file that is there already. Raises ErrandTaken when that one is not free.
    """
    path = folder / (taken_up or f"{os.getpid()}-{os.urandom(4).hex()}.json")
    descriptor = _locked(path) if taken_up else _written(path, errand)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def left_behind(folder: Path) -> tuple[Left, ...]:
    """Errands that nobody is on, in the order of their names; unreadable ones are none."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError, TypeError, ErrandTaken), _held(path):
            errand = read(path)
            found.append(Left(path.name, errand.arguments[0], errand.resumed, errand.resumed_at))
    return tuple(found)


def taken_up(path: Path, now: float) -> Errand:
    """The errand, with this time counted durably before it begins. Raises ErrandTaken when somebody is on it."""
    with _held(path) as descriptor:
        errand = read(path)
        counted = replace(errand, resumed=errand.resumed + 1, resumed_at=now)
        content = json.dumps(asdict(counted)).encode()
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
        return counted


def forget_left(folder: Path) -> int:
    """Drops what nobody is on; how many there were."""
    count = 0
    for left in left_behind(folder):
        (folder / left.id).unlink(missing_ok=True)
        count += 1
    return count


def read(path: Path) -> Errand:
    value = json.loads(path.read_text(encoding="utf-8"))
    arguments: Sequence[str] = value["arguments"]
    return Errand(
        tuple(arguments), value["folder"], value["environment"], int(value["resumed"]), float(value["resumed_at"])
    )


def _written(path: Path, errand: Errand) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, json.dumps(asdict(errand)).encode())
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # before anybody can see it
    os.fsync(descriptor)
    aside.rename(path)
    return descriptor


def _locked(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError as error:
        raise ErrandTaken(path.name) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0:  # ended between the two calls
            raise BlockingIOError
    except BlockingIOError as error:
        os.close(descriptor)
        raise ErrandTaken(path.name) from error
    return descriptor


@contextmanager
def _held(path: Path) -> Iterator[int]:
    descriptor = _locked(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
