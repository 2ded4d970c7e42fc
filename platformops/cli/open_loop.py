"""Open-loop HTTP load: requests that come at random whatever became of earlier ones, timed from when they should."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

from platformops.cli.http_answers import Receiving

CONNECTIONS = 128


class Door(asyncio.Protocol):
    """One connection, which carries one request after the other from a queue that all share."""

    transport: asyncio.Transport

    def __init__(self, request: bytes, waiting: deque[float], idle: list[Door], taken: Taken) -> None:
        self.request, self.waiting, self.idle, self.taken = request, waiting, idle, taken
        self.receiving = Receiving()
        self.due_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.idle.append(self)

    def send(self, due_at: float) -> None:
        self.due_at = due_at
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        head = self.receiving.take(data)
        if head is None:
            return
        self.taken.add(time.perf_counter() - self.due_at, is_ok=head.startswith(b"http/1.1 200"))
        if self.waiting:
            self.send(self.waiting.popleft())
        else:
            self.idle.append(self)


class Taken:
    """What became of the requests so far."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.errors = 0

    def add(self, latency_s: float, *, is_ok: bool) -> None:
        self.latencies_s.append(latency_s)
        self.errors += not is_ok


async def run(port: int, request: bytes, due_s: Sequence[float], *, grace_s: float = 2.0) -> Mapping[str, float]:
    """Sends `request` at each of `due_s` after the start; figures of the answers that came until `grace_s` later.

    A request that finds every connection busy waits, and its waiting counts: nothing is left out because it was slow
    (the coordinated omission of closed loops).
    """
    waiting: deque[float] = deque()
    idle: list[Door] = []
    taken, loop = Taken(), asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Door(request, waiting, idle, taken), "127.0.0.1", port)
        for _ in range(min(CONNECTIONS, len(due_s)))
    ]
    started = time.perf_counter()
    for due in due_s:
        if (pause_s := started + due - time.perf_counter()) > 0:
            await asyncio.sleep(pause_s)
        if idle:
            idle.pop().send(started + due)
        else:
            waiting.append(started + due)
    deadline = time.perf_counter() + grace_s
    while len(taken.latencies_s) < len(due_s) and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    for transport, _ in made:
        transport.abort()
    return _figures(taken, len(due_s), due_s[-1])


def _figures(taken: Taken, sent: int, seconds: float) -> Mapping[str, float]:
    """An answer that never came was slower than all that did."""
    lost = sent - len(taken.latencies_s)
    ordered = [*sorted(taken.latencies_s), *[float("inf")] * lost]
    return {
        "requests": sent,
        "errors": taken.errors + lost,
        "rps": (sent - lost) / seconds,
        "p50_s": ordered[len(ordered) // 2],
        "p99_s": ordered[int(0.99 * (len(ordered) - 1))],
    }
