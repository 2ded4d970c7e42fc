"""Closed-loop HTTP load: so many connections, one request at a time on each, with nothing between two."""

from __future__ import annotations

import asyncio
import time

from platformops.cli.http_answers import Receiving


class Connection(asyncio.Protocol):
    """Sends the same request as soon as the last one was answered."""

    transport: asyncio.Transport

    def __init__(self, request: bytes, latencies_s: list[float], errors: list[bytes]) -> None:
        self.request = request
        self.latencies_s = latencies_s
        self.errors = errors
        self.receiving = Receiving()
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.send()

    def send(self) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        head = self.receiving.take(data)
        if head is None:
            return
        self.latencies_s.append(time.perf_counter() - self.sent_at)
        if not head.startswith(b"http/1.1 200"):
            self.errors.append(head[9:12])
        self.send()


async def run(port: int, request: bytes, *, connections: int, seconds: float) -> dict[str, float]:
    """Figures of `seconds` of load."""
    latencies_s: list[float] = []
    errors: list[bytes] = []
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(request, latencies_s, errors), "127.0.0.1", port)
        for _ in range(connections)
    ]
    started = time.perf_counter()
    latencies_s.clear()
    await asyncio.sleep(seconds)
    elapsed_s = time.perf_counter() - started
    ordered = sorted(latencies_s)
    for transport, _ in made:
        transport.abort()
    return {
        "requests": len(ordered),
        "errors": len(errors),
        "rps": len(ordered) / elapsed_s,
        "mean_ms": 1e3 * sum(ordered) / max(1, len(ordered)),
        "p50_ms": 1e3 * ordered[len(ordered) // 2] if ordered else float("inf"),
        "p99_ms": 1e3 * ordered[int(0.99 * len(ordered))] if ordered else float("inf"),
    }


def request_bytes(path: str, body: bytes, headers: list[str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
