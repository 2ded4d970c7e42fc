"""Ends, stops and continues processes by their id, and looks at the families below them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from platformops.pipeline.process import children_of


def below(pid: int) -> list[int]:
    """Every process below `pid`, parents before their children."""
    found = []
    for child in children_of(pid):
        found += [child, *below(child)]
    return found


def command_of(process: psutil.Process) -> str:
    """Its command line; empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def is_gone(pid: int) -> bool:
    """True for a zombie too: it does nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill(pid: int) -> bool:
    """SIGKILL; False when there was nobody left to receive it."""
    if is_gone(pid):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still meanwhile (SIGSTOP, then SIGCONT): a frozen machine, as others see it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def wait_until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.005)
