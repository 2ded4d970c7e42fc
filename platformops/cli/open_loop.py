"""Open-loop HTTP load: requests that come at random whatever became of earlier ones, timed from when they should."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from platformops.cli.http_answers import Receiving

CONNECTIONS = 128
"""At most; more requests than that wait for one another."""


class Taken:
    """What became of the requests so far."""

    def __init__(self) -> None:
        self.seconds: list[tuple[float, float]] = []
        """When each answered one was due, and how long after that its answer came."""
        self.errors = 0

    def add(self, due_at: float, seconds: float, *, is_ok: bool) -> None:
        self.seconds.append((due_at, seconds))
        self.errors += not is_ok


class Doors:
    """The connections, each opened when a request finds no other one free, as a server closes those that never ask."""

    def __init__(self, port: int, request: bytes) -> None:
        self.request, self.taken = request, Taken()
        self._port, self._waiting = port, deque[float]()
        self._idle: dict[Door, None] = {}
        self._open: set[Door] = set()
        self._opening: set[asyncio.Task[None]] = set()

    def ask(self, due_at: float) -> None:
        if self._idle:
            self._idle.popitem()[0].send(due_at)
            return
        self._waiting.append(due_at)
        self._open_another()

    def free(self, door: Door) -> None:
        """It can carry a request now."""
        self._open.add(door)
        if self._waiting:
            door.send(self._waiting.popleft())
        else:
            self._idle[door] = None

    def gone(self, door: Door) -> None:
        """It was closed; a request that it carried is lost."""
        self._idle.pop(door, None)
        self._open.discard(door)
        if self._waiting:
            self._open_another()

    def close(self) -> None:
        self._waiting.clear()
        for task in self._opening:
            task.cancel()
        for door in self._open:
            door.transport.abort()

    def _open_another(self) -> None:
        if len(self._open) + len(self._opening) < CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        with suppress(OSError):  # nobody listens: what waits for it is lost, and the next request tries again
            await asyncio.get_running_loop().create_connection(lambda: Door(self), "127.0.0.1", self._port)


class Door(asyncio.Protocol):
    """One connection, which carries one request after the other."""

    transport: asyncio.Transport

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._receiving = Receiving()
        self._due_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._doors.free(self)

    def send(self, due_at: float) -> None:
        self._due_at = due_at
        self.transport.write(self._doors.request)

    def data_received(self, data: bytes) -> None:
        head = self._receiving.take(data)
        if head is not None:
            seconds = time.perf_counter() - self._due_at
            self._doors.taken.add(self._due_at, seconds, is_ok=head.startswith(b"http/1.1 200"))
            self._doors.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._doors.gone(self)


def at_random(per_s: float, count: int) -> list[float]:
    """When so many requests are due that come independently of each other; always the same instants, and the last one
    at the very time that the rate lets expect."""
    gaps = np.random.default_rng(0).exponential(1.0, count)
    return (np.cumsum(gaps) * (count / per_s / gaps.sum())).tolist()  # type: ignore[no-any-return]


async def run(
    port: int, request: bytes, due_s: Sequence[float], *, warm_up: int = 0, grace_s: float = 2.0
) -> Mapping[str, float]:
    """Sends `request` at each of `due_s` after the start; figures of the answers that came until `grace_s` later.

    A request that finds every connection busy waits, and its waiting counts: nothing is left out because it was slow
    (the coordinated omission of closed loops). The first `warm_up` requests, for which connections are opened, count
    only where they fail.
    """
    doors, started = Doors(port, request), time.perf_counter()
    for due in due_s:
        if (pause_s := started + due - time.perf_counter()) > 0:
            await asyncio.sleep(pause_s)
        doors.ask(started + due)
    taken, deadline = doors.taken, time.perf_counter() + grace_s
    while len(taken.seconds) < len(due_s) and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    doors.close()
    begin_s = due_s[warm_up - 1] if warm_up else 0.0
    counted = [seconds for due_at, seconds in taken.seconds if due_at > started + begin_s]
    errors = taken.errors + len(due_s) - len(taken.seconds)
    return _figures(counted, len(due_s) - warm_up, due_s[-1] - begin_s, errors)


def _figures(answered_s: Sequence[float], sent: int, seconds: float, errors: int) -> Mapping[str, float]:
    """An answer that never came was slower than all that did."""
    ordered = [*sorted(answered_s), *[float("inf")] * (sent - len(answered_s))]
    return {
        "requests": sent,
        "errors": errors,
        "rps": len(answered_s) / seconds,
        "mean_s": sum(ordered) / len(ordered),
        "p50_s": ordered[len(ordered) // 2],
        "p99_s": ordered[int(0.99 * (len(ordered) - 1))],
    }
