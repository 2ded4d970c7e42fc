"""One HTTP request as the gateway handles it: its head, its body read under a limit, its reply sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from platformops.gateway.exchange import MAX_PATH_CHARS, Exchange
from platformops.gateway.replies import Refused, Reply
from platformops.gateway.trace_context import parent_of, trace_id_of
from platformops.security.keys import Identity

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

WHEN_GONE = "platformops.when_gone"
"""ASGI extension of our server: takes a function to call once the client has hung up."""
CLIENT_CLOSED = 499
"""Never sent, since nobody is there to read it; it keeps those requests apart in log and metrics."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request once its route is known and its key allows it."""

    scope: Scope
    receive: Receive
    exchange: Exchange
    identity: Identity | None
    """None on routes that are open."""
    system: str | None
    started: float
    """Loop time of arrival."""

    @property
    def headers(self) -> Headers:
        headers: Headers = self.scope["headers"]
        return headers

    def when_gone(self, call: Callable[[], None]) -> None:
        """`call` once the client hangs up before it is answered: at once where it already has."""
        extensions = self.scope.get("extensions") or {}
        register: Callable[[Callable[[], None]], None] | None = extensions.get(WHEN_GONE)
        if register is not None:
            register(call)

    def may(self, scope: str) -> bool:
        return self.identity is not None and self.identity.may(scope, system=self.system)


def header(headers: Headers, wanted: bytes) -> bytes | None:
    for name, value in headers:
        if name == wanted:
            return value
    return None


def exchange_of(scope: Scope, request_id: str, at: float, started: float) -> Exchange:
    """The record of a request that has just arrived, `at` by the clock and at `started` in loop time."""
    raw_path: bytes = scope.get("raw_path") or b""
    client = scope.get("client")
    path = raw_path[:MAX_PATH_CHARS].decode("latin-1")
    parent = parent_of(scope["headers"])
    trace_id = parent.trace_id if parent else trace_id_of(request_id)
    return Exchange(request_id, at, scope["method"], path, client[0] if client else "", started, trace_id, parent)


async def read_body(asked: Asked, max_bytes: int, reserve: Callable[[int], None]) -> bytes:
    """The body; raises Refused (413) on the word of Content-Length, or at the first byte above `max_bytes`.

    `reserve` is told of each piece before it is kept, and may refuse it.
    """
    too_large = Refused(413, "body_too_large", f"a body may have {max_bytes} bytes")
    length = header(asked.headers, b"content-length")
    if length is not None and (not length.isdigit() or len(length) > 15 or int(length) > max_bytes):
        raise too_large
    chunks: list[bytes] = []
    while not asked.exchange.is_body_read:
        message = await asked.receive()
        if message["type"] == "http.disconnect":
            raise Refused(CLIENT_CLOSED, "client_gone", "the client hung up")
        chunk: bytes = message.get("body", b"")
        asked.exchange.body_bytes += len(chunk)
        if asked.exchange.body_bytes > max_bytes:
            raise too_large
        reserve(len(chunk))
        chunks.append(chunk)
        asked.exchange.is_body_read = not message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def send_reply(send: Send, reply: Reply, exchange: Exchange, request_headers: Headers) -> None:
    """Send it whole; a connection with an unread body is closed, since what follows on it is not a request."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode("ascii")),
        (b"x-request-id", exchange.request_id.encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *reply.headers.items(),
    ]
    if not exchange.is_body_read and _has_body(request_headers):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _has_body(headers: Headers) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0") for name, value in headers
    )
