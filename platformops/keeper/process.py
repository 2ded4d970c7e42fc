"""The keeper as a process: one a home, found and ended by the lock that it holds for as long as it lives."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from platformops.clock import Clock
from platformops.home import Home
from platformops.pipeline.modules import PLATFORM_ROOT

ENTRY = "platformops.cli.keeping"
STOP_S = 15.0
LOOK_S = 0.05


def lock_of(where: Home) -> Path:
    return where.root / "keeper.lock"


@contextmanager
def only_one(where: Home) -> Iterator[bool]:
    """True for the process that may keep this home; its id is in the lock's file."""
    with lock_of(where).open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield True


def keeper_of(where: Home) -> int | None:
    """The id of the process that keeps this home, or None."""
    try:
        with lock_of(where).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                written = file.read()
                return int(written) if written.isdigit() else None
    except FileNotFoundError:
        return None
    return None


def ensure(where: Home, environment: Mapping[str, str]) -> None:
    """A keeper runs for this home afterwards; starting a second one is harmless."""
    if keeper_of(where) is not None:
        return
    where.logs.mkdir(parents=True, exist_ok=True)
    # The keeper must find this very PlatformOps also where it is not installed.
    places = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), str(PLATFORM_ROOT)]
    given = {"PLATFORMOPS_HOME": str(where.root), "PYTHONPATH": os.pathsep.join(places)}
    with (where.logs / "keeper.err").open("ab") as errors, Path(os.devnull).open("rb") as nothing:
        # Not by `subprocess`: this child is meant to outlive its parent, which must not wait for it.
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", ENTRY],
            dict(environment) | given,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, errors.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, errors.fileno(), 2),
            ],
            setsid=True,
        )


def stop(where: Home, clock: Clock) -> bool:
    """The keeper and what it resumed are gone on return; False when there was none."""
    pid = keeper_of(where)
    if pid is None:
        return False
    deadline = clock.monotonic() + STOP_S
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while keeper_of(where) == pid and clock.monotonic() < deadline:
            clock.sleep(LOOK_S)
        if keeper_of(where) == pid:
            os.kill(pid, signal.SIGKILL)
    return True
