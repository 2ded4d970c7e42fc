"""A gateway in a process of its own with replicas that cost a fixed amount of CPU: `metrics_server.py on|off WORK_MS`.

Prints its port and key as one JSON line. `off` counts nothing at all.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Sequence

import uvloop

from platformops.clock import SystemClock
from platformops.delivery.records import Revision, Route, System
from platformops.gateway.app import Gateway, Policy
from platformops.gateway.call import Answer
from platformops.gateway.protocol import HttpLimits
from platformops.gateway.served import renew
from platformops.gateway.server import HttpServer, bind
from platformops.security.keys import new_key
from platformops.store.records import Entry

BODY = json.dumps({"label": "3", "probability": 0.9}).encode()


class Replicas:
    """One replica on one core: `work_s` of CPU an item, and what it tells of itself."""

    def __init__(self, work_s: float) -> None:
        self.work_s, self.counts = work_s, False
        self.gateway: Gateway | None = None

    async def __call__(
        self, revision: str, items: Sequence[bytes], *, deadline: float, queued: int, traces: Sequence[str] = ()
    ) -> Sequence[Answer]:
        begin_s = time.thread_time()  # work is CPU, however long a busy machine lets it wait
        while time.thread_time() - begin_s < self.work_s * len(items):
            pass
        if self.counts and self.gateway is not None:
            took_s = time.thread_time() - begin_s
            self.gateway.metrics.called(
                revision, "n1", items=len(items), seconds=took_s, stages_s=(took_s, 0.0, 0.0), cpu_s=took_s
            )
        return [Answer(200, BODY, model_version="bench:v1")] * len(items)


def main() -> None:
    is_on, work_s = sys.argv[1] == "on", float(sys.argv[2]) / 1000
    replicas, numbers = Replicas(work_s), itertools.count()
    gateway = Gateway(
        call=replicas,
        width=lambda revision: 1,
        ready=lambda revision: 1,
        clock=SystemClock(),
        new_id=lambda: f"{next(numbers):024x}",
        policy=Policy(open_metrics=True),
    )
    replicas.gateway, replicas.counts = gateway, is_on
    if not is_on:
        gateway._observers = gateway._observers[1:]
    revision = Revision("bench", 1, 1, "f" * 64, "d" * 64, 1, 1)
    system = System("bench", revision, Route("bench", {"bench-r1": 100.0}, 1), {}, ("3",), "up")
    key = new_key(scopes=("predict",), systems=("bench",), now=0.0)
    gateway.world = renew(gateway.world, [system], [Entry(key.put.key, key.put.value or {}, 1)])
    bound = bind("127.0.0.1", 0)
    print(json.dumps({"port": bound.getsockname()[1], "key": key.token, "pid": os.getpid()}), flush=True)
    server = HttpServer(gateway, limits=HttpLimits(), new_id=lambda: "0" * 24, shed=gateway.shed)
    uvloop.run(server.serve(bound))


if __name__ == "__main__":
    main()
