"""One HTTP request as the gateway handles it: its head, its body read under a limit, its reply sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from platformops.gateway.exchange import MAX_PATH_CHARS, Exchange
from platformops.gateway.heads import Headers, check_length, has_body, too_large
from platformops.gateway.replies import Refused, Reply, headers_of
from platformops.gateway.served import Served
from platformops.gateway.trace_context import parent_of, trace_id_of
from platformops.gateway.ways import Place
from platformops.security.keys import Identity

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WHEN_GONE = "platformops.when_gone"
"""ASGI extension of our server: takes a function to call once the client has hung up."""
HEAD = "platformops.head"
"""ASGI extension of our server: the Head, where it was judged before the application is called."""
CLIENT_CLOSED = 499
"""Never sent, since nobody is there to read it; it keeps those requests apart in log and metrics."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request judged by its head: refused with `reply`, or let in for `handler`."""

    exchange: Exchange
    handler: str = ""
    identity: Identity | None = None
    """None on routes that are open."""
    served: Served | None = None
    """The system asked; None on routes of no system."""
    place: Place | None = None
    """Of a prediction."""
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was let in."""

    scope: Scope
    receive: Receive
    head: Head

    @property
    def headers(self) -> Headers:
        headers: Headers = self.scope["headers"]
        return headers

    @property
    def exchange(self) -> Exchange:
        return self.head.exchange

    @property
    def served(self) -> Served:
        """The system asked, on routes that have one."""
        assert self.head.served is not None
        return self.head.served

    @property
    def caller(self) -> str:
        """The id of the key that asks; empty without one."""
        return self.head.identity.key_id if self.head.identity else ""

    def when_gone(self, call: Callable[[], None]) -> None:
        """`call` once the client hangs up before it is answered: at once where it already has."""
        extensions = self.scope.get("extensions") or {}
        register: Callable[[Callable[[], None]], None] | None = extensions.get(WHEN_GONE)
        if register is not None:
            register(call)


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
    check_length(asked.headers, max_bytes)
    chunks: list[bytes] = []
    while not asked.exchange.is_body_read:
        message = await asked.receive()
        if message["type"] == "http.disconnect":
            raise Refused(CLIENT_CLOSED, "client_gone", "the client hung up")
        chunk: bytes = message.get("body", b"")
        asked.exchange.body_bytes += len(chunk)
        if asked.exchange.body_bytes > max_bytes:
            raise too_large(max_bytes)
        reserve(len(chunk))
        chunks.append(chunk)
        asked.exchange.is_body_read = not message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def send_reply(send: Send, reply: Reply, exchange: Exchange, request_headers: Headers) -> None:
    """Send it whole; a connection with an unread body is closed, since what follows on it is not a request."""
    is_last = not exchange.is_body_read and has_body(request_headers)
    headers = headers_of(reply, exchange.request_id, is_last=is_last)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
