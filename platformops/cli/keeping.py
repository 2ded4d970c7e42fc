"""The keeper's process, `python -m platformops.cli.keeping`: started by `up` where it starts a cluster, no verb."""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial
from types import FrameType

from platformops.cli import settings
from platformops.cli.cluster import CLUSTER_LOCK, one_at_a_time
from platformops.clock import SystemClock
from platformops.keeper.doors import Doors
from platformops.keeper.errands import TAKEN_UP
from platformops.keeper.loop import LOG_FILE, keep
from platformops.keeper.process import only_one
from platformops.on_ray.kept import KeptCluster


def main() -> int:
    """Keeps the cluster of this home until `down`; at once done when another process keeps it."""
    where, clock, ended = settings.home(), SystemClock(), threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    os.environ.pop(TAKEN_UP, None)
    with only_one(where) as is_only, settings.opened_store(where) as store:
        if not is_only:
            return 0
        alone = partial(one_at_a_time, where, CLUSTER_LOCK)
        machine = KeptCluster(where, store, clock, dict(os.environ), alone)
        try:
            with Doors(where.root, clock):
                keep(machine, store, clock, where.logs / LOG_FILE, is_ended=ended.is_set)
        finally:
            machine.end_resumed()
    return 0


if __name__ == "__main__":
    sys.exit(main())
