"""Which processes of a machine go first: what answers and watches, before what prepares and trains."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RAY_SETTINGS = {"RAY_worker_niceness": "0"}
"""Of a raylet that is started here. Ray's own value is 15, for replicas too: any other program of the machine would go
before every request."""
BATCH_NICENESS = 10
"""A tenth of the weight of a process at 0: work that can wait fills what is left of the processor."""


def go_first() -> None:
    """Called by a process that people wait for. Where a raylet of somebody else's made it nice, this needs a right that
    a process may not have; then it stays as it is."""
    with suppress(PermissionError):
        _set_niceness(0)


def give_way() -> None:
    """Called by a process whose work can wait; one that is nicer already stays so."""
    if os.getpriority(os.PRIO_PROCESS, 0) < BATCH_NICENESS:
        _set_niceness(BATCH_NICENESS)


def _set_niceness(value: int) -> None:
    # In Linux each thread has its own; new ones take that of the thread which starts them.
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), value)
