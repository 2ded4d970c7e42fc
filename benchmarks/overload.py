"""What more than the gateway can take costs: how fast it refuses, what those it took notice, and how much memory.

    python benchmarks/overload.py [--short]

The server is a process of its own with keys, limits and metrics on, in front of replicas that answer each call after
20 ms. Refusals are timed from the last byte sent to the first byte received, in a client process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if TYPE_CHECKING:
    from platformops.delivery.records import System

CALL_S = 0.02
CONCURRENT = 2000
SLOW = 5000
MAX_QUEUE = 50
LINGER_S = 15.0
TARGETS = {
    "refused_p99_ms": 100.0,
    "accepted_p99_ratio": 2.0,
    "unanswered": 0,
    "memory_growth_mib": 64.0,
    "slow_left_open": 0,
    "good_failed_among_slow": 0,
}
Timed = tuple[int, float]


async def serve() -> None:
    """The server process: prints its port and key, and serves until it is killed."""
    from platformops.clock import SystemClock
    from platformops.gateway.app import Gateway, Policy
    from platformops.gateway.call import Answer
    from platformops.gateway.protocol import HttpLimits
    from platformops.gateway.served import renew
    from platformops.gateway.server import HttpServer, bind
    from platformops.security.keys import new_key
    from platformops.store.records import Entry

    answer = Answer(200, b'{"label": "3", "probability": 1.0, "probabilities": {"3": 1.0}}', model_version="bench:v1")

    async def call(
        revision: str, items: Sequence[bytes], *, deadline: float, queued: int, traces: Sequence[str] = ()
    ) -> Sequence[Answer]:
        await asyncio.sleep(CALL_S)
        return [answer] * len(items)

    def new_id() -> str:
        return os.urandom(12).hex()

    gateway = Gateway(
        call=call, width=lambda _: 2, ready=lambda _: 2, clock=SystemClock(), new_id=new_id, policy=Policy()
    )  # fmt: skip
    key = new_key(scopes=("predict",), systems=("bench",), now=0.0)
    assert key.put.value is not None
    gateway.world = renew(gateway.world, [_system()], [Entry(key.put.key, key.put.value, 1)])
    gc.collect()
    gc.freeze()  # as the gateway does in its own process
    bound = bind("127.0.0.1", 0)
    server = HttpServer(gateway, limits=HttpLimits(), new_id=new_id, shed=gateway.shed)
    serving = asyncio.create_task(server.serve(bound))
    while not server.is_started:
        await asyncio.sleep(0.01)
    print(json.dumps([bound.getsockname()[1], key.token]), flush=True)
    await serving


def _system() -> System:
    from platformops.delivery.records import Revision, Route, System

    stable = Revision("bench", 1, 1, "f" * 64, "d" * 64, 1, 1)
    options = {"max_queue": MAX_QUEUE, "batch": 8}
    return System("bench", stable, Route("bench", {"bench-r1": 100.0}, 1), options, ("3",), "up")


@contextlib.contextmanager
def server() -> Iterator[tuple[int, str, psutil.Process]]:
    """Port, key and process of a fresh server."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port, key = json.loads(process.stdout.readline())
            yield port, key, psutil.Process(process.pid)
        finally:
            process.kill()


def head(key: str, *lines: str) -> bytes:
    common = ["POST /bench/predict HTTP/1.1", "Host: bench", f"Authorization: Bearer {key}", "Content-Type: image/png"]
    return "\r\n".join([*common, *lines, "", ""]).encode()


def flood(port: int, key: str) -> list[Timed]:
    """CONCURRENT requests sent in one moment on connections that are open already: status and seconds of each.

    Plain sockets: as tasks of asyncio the client alone would take longer for them than the server may.
    """
    request = head(key, "Content-Length: 5", "Connection: close") + b"image"
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONCURRENT)]
    began, seen, first = {}, [], select.epoll()
    by_number = {connection.fileno(): connection for connection in connections}
    for number in by_number:
        first.register(number, select.EPOLLIN)
    for number, connection in by_number.items():
        began[number] = time.perf_counter()
        connection.send(request)
    while by_number and (ready := first.poll(30.0)):
        for number, _ in ready:
            at = time.perf_counter()
            answer = by_number[number].recv(65536)
            seen.append(((int(answer.split(b" ", 2)[1]) if answer else 0), at - began[number]))
            by_number.pop(number).close()
    for connection in by_number.values():
        connection.close()
    return seen + [(0, 0.0)] * len(by_number)


async def ask(port: int, key: str) -> Timed:
    """Status and seconds of one request on a connection of its own."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()
        writer.write(head(key, "Content-Length: 5", "Connection: close") + b"image")
        first = await reader.read(65536)
        writer.close()
    except ConnectionError:
        return 0, 0.0
    return (int(first.split(b" ", 2)[1]) if first else 0), time.perf_counter() - began


def quantile(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds)
    return ordered[int(share * (len(ordered) - 1))] if ordered else float("inf")


async def alone(port: int, key: str, count: int) -> list[Timed]:
    return [await ask(port, key) for _ in range(count)]


async def steadily(port: int, key: str, over: asyncio.Event) -> list[Timed]:
    seen = []
    while not over.is_set():
        seen.append(await ask(port, key))
        await asyncio.sleep(0.05)
    return seen


async def slow(port: int, sent: bytes, opening: asyncio.Semaphore) -> bool:
    """Whether the server closed a connection on which nothing follows on `sent`."""
    try:
        async with opening:  # more at once, and the kernel drops what does not fit into its queue
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(LINGER_S):
            while await reader.read(65536):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    writer.close()
    return True


async def crowd(port: int, key: str, count: int) -> tuple[list[bool], list[Timed]]:
    """`count` slow connections of four kinds, and what a good client sees meanwhile."""
    kinds = [b"", b"POST /bench/predict HTTP/1.1\r\nX-", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
             head(key, "Content-Length: 100") + b"half"]  # fmt: skip
    over, opening = asyncio.Event(), asyncio.Semaphore(200)
    working = asyncio.create_task(steadily(port, key, over))
    closed = await asyncio.gather(*[slow(port, kinds[n % len(kinds)], opening) for n in range(count)])
    over.set()
    return closed, await working


def bodies(key: str, *, short: bool) -> dict[str, Iterator[bytes]]:
    """Bodies that should never get far, piece by piece."""

    def endless(framed: bytes) -> Iterator[bytes]:
        yield head(key, "Transfer-Encoding: chunked")
        for _ in range(1024 if short else 16384):
            yield framed

    def announced() -> Iterator[bytes]:
        yield head(key, f"Content-Length: {1024**3}")
        for _ in range(16384):
            yield b"x" * 65536

    tiny = b"1\r\nx\r\n" * 10_000
    return {
        "a gigabyte as announced": announced(),
        "chunks of 64 KiB without end": endless(b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        "chunks of one byte": iter([head(key, "Transfer-Encoding: chunked"), *[tiny] * 300, b"0\r\n\r\n"]),
    }


def send(port: int, pieces: Iterator[bytes]) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.recv(65536)


def growth_mib(process: psutil.Process, before: int) -> float:
    return max(0, int(process.memory_info().rss) - before) / 1024**2


def measure(*, short: bool) -> dict[str, float]:
    """Figures of a flood, of slow connections and of large bodies, each at a server of its own."""
    with server() as (port, key, _):
        unloaded = asyncio.run(alone(port, key, 100 if short else 500))
        floods = [flood(port, key) for _ in range(2 if short else 5)]
    asked = [one for flood_ in floods for one in flood_]
    accepted, refused = [s for status, s in asked if status == 200], [s for status, s in asked if status == 503]
    with server() as (port, key, _):
        closed, good = asyncio.run(crowd(port, key, SLOW))
    largest = 0.0
    with server() as (port, key, process):
        asyncio.run(alone(port, key, 20))
        for name, pieces in bodies(key, short=short).items():
            before = process.memory_info().rss
            send(port, pieces)
            grown = growth_mib(process, before)
            largest = max(largest, grown)
            print(f"{name:32} {grown:8.1f} MiB")
    return {
        "refused": len(refused),
        "refused_p99_ms": 1e3 * quantile(refused, 0.99),
        "accepted_p99_ms": 1e3 * quantile(accepted, 0.99),
        "unloaded_p99_ms": 1e3 * quantile([s for _, s in unloaded], 0.99),
        "accepted_p99_ratio": quantile(accepted, 0.99) / quantile([s for _, s in unloaded], 0.99),
        "accepted": len(accepted),
        "unanswered": sum(status not in (200, 503) for status, _ in asked),
        "memory_growth_mib": largest,
        "slow_left_open": closed.count(False),
        "good_failed_among_slow": sum(status != 200 for status, _ in good),
        "good_p99_ms_among_slow": 1e3 * quantile([s for _, s in good], 0.99),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if asked.serve:
        import uvloop

        uvloop.run(serve())
        return 0
    if hard != resource.RLIM_INFINITY and hard < SLOW + 100:
        print(f"{SLOW} connections need more open files than the {hard} that a process may have here")
        return 1
    from benchmarks.verdict import told

    load = os.getloadavg()[0]
    figures = {name: round(figure, 2) for name, figure in measure(short=asked.short).items()}
    print(f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores")
    return told("overload", figures, TARGETS)


if __name__ == "__main__":
    sys.exit(main())
