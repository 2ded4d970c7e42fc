"""uvicorn's HTTP protocol with the bounds that it lacks: heads, slowness, connections, and no second-guessing.

What a client may spend here is bounded before a request exists: bytes of a head and of a URL, headers, seconds for
a head and for a body, connections. A request that breaks the grammar ends its connection, since what follows
it may be somebody's smuggled request; for the same reason nothing is pipelined.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from platformops.gateway.connections import Connections
from platformops.gateway.replies import RETRY_SOON, Refused, Reply, headers_of, refusal
from platformops.gateway.request import WHEN_GONE, Scope
from platformops.gateway.transport import LingeringTransport

TOO_LONG_URL = Refused(414, "url_too_long", "the URL is too long")
TOO_LARGE_HEAD = Refused(431, "headers_too_large", "the headers are too large or too many")
MALFORMED = Refused(400, "bad_request", "this is not a well-formed HTTP request")
UPGRADE = Refused(400, "upgrade_with_body", "send the request again without the Upgrade header")
TOO_SLOW = Refused(408, "too_slow", "the request came too slowly")
FULL = Refused(503, "too_many_connections", "too many connections are open", headers=RETRY_SOON)


Shed = Callable[[Scope], tuple[Reply, str] | None]
"""The refusal of a request whose head alone is reason enough, with its request id."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of the HTTP server; they hold before it is known which system is asked."""

    max_head_bytes: int = 32 * 1024
    max_url_bytes: int = 8 * 1024
    max_headers: int = 100
    head_timeout_s: float = 5.0
    """From the first byte of a request, or from connecting, to the end of the headers."""
    body_timeout_s: float = 9.0
    """From the end of the headers to the end of the body."""
    idle_timeout_s: int = 8
    """Between two requests of a connection."""
    linger_s: float = 2.0
    """How long the rest of a refused body is read and dropped, so that the client gets to see the refusal."""
    max_connections: int = 8192
    max_connections_per_client: int = 4096
    """By address. One address may be a proxy with many clients behind it, hence the high default."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `transport` is wrapped so that closing it early still delivers the answer."""

    transport: LingeringTransport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: HttpLimits,
        book: Connections[BoundedProtocol],
        new_id: Callable[[], str],
        shed: Shed,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limits = limits
        self.book = book
        self.new_id = new_id
        self.shed = shed
        self.address = ""
        self.pending_bytes = 0
        """Fed since the request began, while its head is incomplete."""
        self.head_bytes = 0
        """Names and values of the headers so far."""
        self.url_bytes = 0
        self.num_headers = 0
        self.body_bytes = 0
        self.framing_bytes = 0
        """Fed since the last byte of a body that is still incomplete."""
        self.is_head_complete = True
        self.body_due: float | None = None
        """When the body must be complete (loop time); None when none is missing."""
        self.unread_since: float | None = None
        """Since when the client has not read what we sent."""
        self.is_refused = False
        self.on_gone: Callable[[], None] | None = None
        """To be called when the client of the request in hand hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        inner = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        super().connection_made(LingeringTransport(inner, self.loop, self.limits.linger_s))
        self.address = self.client[0] if self.client else ""
        victim = self.book.opened(self.address, self, self.loop.time())
        if victim is self:
            self.refuse(FULL)
        elif victim is not None:
            victim.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.book.closed(self.address, self)
        self.transport.forget()
        super().connection_lost(exc)
        if self.on_gone is not None:
            self.on_gone()

    def data_received(self, data: bytes) -> None:
        if self.is_refused or self.transport.is_lingering:
            return
        if self.is_head_complete and self.body_due is None:
            self.book.begins(self.address, self, self.loop.time())
        body_bytes = self.body_bytes
        super().data_received(data)
        if self.is_refused:
            return
        if self.is_head_complete:
            self._bound_framing(len(data) if self.body_bytes == body_bytes else 0)
            return
        self.pending_bytes += len(data)
        if self.pending_bytes > self.limits.max_head_bytes + self.limits.max_url_bytes:
            self.refuse(TOO_LONG_URL if self.url_bytes > self.limits.max_url_bytes else TOO_LARGE_HEAD)

    def _bound_framing(self, num_bytes: int) -> None:
        """Chunk extensions and trailers are read and thrown away, but not without end."""
        self.framing_bytes = self.framing_bytes + num_bytes if num_bytes and self.body_due is not None else 0
        if self.framing_bytes > self.limits.max_head_bytes:
            self.refuse(TOO_LARGE_HEAD)

    def on_message_begin(self) -> None:
        self.body_bytes = self.framing_bytes = 0
        self.pending_bytes = self.head_bytes = self.url_bytes = self.num_headers = 0
        self.is_head_complete = False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url_bytes += len(url)
        if self.url_bytes <= self.limits.max_url_bytes:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.num_headers += 1
        # Trailers of a chunked body arrive here too; they must not become headers of a request already judged.
        if not self.is_head_complete and self.num_headers <= self.limits.max_headers:
            self.head_bytes += len(name) + len(value)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.is_head_complete = True
        if self.is_refused or self._is_still_answering():
            return
        if self.url_bytes > self.limits.max_url_bytes:
            self.refuse(TOO_LONG_URL)
        elif self.num_headers > self.limits.max_headers or self.head_bytes > self.limits.max_head_bytes:
            self.refuse(TOO_LARGE_HEAD)
        elif refused := self._misframed():
            self.refuse(refused)
        else:
            self._start()

    def _misframed(self) -> Refused | None:
        """Why it is not certain where the body ends, or what is in it, although the parser would go on."""
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1") or (codings and (codings != [b"chunked"] or version == "1.0")):
            return MALFORMED
        # httptools takes all that follows an Upgrade for another protocol, also the body of this very request.
        has_body = codings or any(name == b"content-length" and value != b"0" for name, value in self.headers)
        return UPGRADE if has_body and self.parser.should_upgrade() else None

    def _start(self) -> None:
        self.book.busy(self.address, self)
        self.scope["extensions"] = {WHEN_GONE: self._when_gone}  # type: ignore[dict-item]
        self.scope["method"] = self.parser.get_method().decode("ascii")
        path = httptools.parse_url(self.url).path
        if path is None:
            self.refuse(MALFORMED)
            return
        self.scope["raw_path"] = path
        if (refused := self.shed(cast("Scope", self.scope))) is not None:
            self._end(*refused)
            return
        self.body_due = self.loop.time() + self.limits.body_timeout_s
        self.transport.owes_body = True
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # the parser reads no second request after one that asked for an upgrade

    def _when_gone(self, call: Callable[[], None]) -> None:
        """`call` once the client hangs up before its answer is complete; only the last one asked for is called."""
        if self.cycle.disconnected:
            call()
        else:
            self.on_gone = call

    def _is_still_answering(self) -> bool:
        """Whether a request follows on one that is not answered yet: it is dropped, and the connection closes."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        self.refuse(MALFORMED)
        return True

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if not self.is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.is_refused:
            self.transport.finish()
            return
        self.body_due = None
        self.transport.owes_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.on_gone = None
        self.book.waits(self.address, self, self.loop.time())
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self.refuse(MALFORMED)

    def refuse(self, refused: Refused) -> None:
        """Answer in place of the application, and close; a request that is being answered keeps its answer."""
        if self.is_refused:
            return
        self.is_refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body:
                self.transport.owes_body = True
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        request_id = self.new_id()
        self._end(refusal(refused, request_id), request_id)

    def _end(self, reply: Reply, request_id: str) -> None:
        """The last answer of this connection; what of a body still comes is read by nobody."""
        self.is_refused = True
        self.book.waits(self.address, self, self.loop.time())  # it makes room for a newcomer, should that be needed
        self.transport.owes_body = True
        self.transport.write(_reply_bytes(reply, request_id))
        self.transport.close()

    def sweep(self, now: float) -> None:
        """Let go of a client that neither completes its body nor reads its answer."""
        if self.body_due is not None and now > self.body_due:
            self.refuse(TOO_SLOW)
        if not self.flow.write_paused:
            self.unread_since = None
        elif self.unread_since is None:
            self.unread_since = now
        elif now - self.unread_since > self.limits.body_timeout_s:
            self.transport.abort()

    def give_up_on_head(self) -> None:
        """Close what has not become a request in time; there is somebody to tell only if a request had begun."""
        if self.is_head_complete:
            self.transport.close()
        else:
            self.refuse(TOO_SLOW)


def _reply_bytes(reply: Reply, request_id: str) -> bytes:
    lines = [b"%b: %b\r\n" % pair for pair in headers_of(reply, request_id, is_last=True)]
    return b"".join((STATUS_LINE[reply.status], *lines, b"\r\n", reply.body))
