"""A replica's own socket, to which only processes of the same user on the same machine can connect.

Its name is in Linux's abstract namespace: it is there for as long as its process, and leaves no file behind. It has 128
random bits, and both ends ask the kernel who the other one is.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from platformops.gateway.call import Origin, Row
from platformops.gateway.frames import Answered, Asked, Failed, FrameBroken, Leaving, Reader, encoded
from platformops.security.peers import is_same_user

Answering = Callable[[list[bytes], int, Sequence[str]], Awaitable[tuple[Origin, list[Row]]]]
"""Items, how many more wait behind them, and the spans they belong to -> where that was done, and one row an item."""
BACKLOG = 64
LAST_CALLS_S = 0.05
"""Between the last word to the gateways and the last look for calls that had left by then."""


class Listener:
    """The replica's end. Use from one event loop, but for its making."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._name = f"platformops-{secrets.token_hex(16)}"
        self._socket = _bound(f"\0{self._name}") if sys.platform == "linux" else None
        self._server: asyncio.AbstractServer | None = None
        self._is_opened = False
        self.is_closing = False
        self.connections: set[_Connection] = set()
        self.calls: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """What a gateway on this machine connects to; empty on systems without such names."""
        return self._name if self._socket is not None else ""

    async def open(self) -> None:
        """Calls are taken on return; idempotent."""
        if self._is_opened or self._socket is None:
            return
        self._is_opened = True
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(self), sock=self._socket)

    async def close(self) -> None:
        """No call comes any more, and every one that came is answered, on return."""
        self.is_closing = True
        for connection in self.connections:
            connection.say(encoded(Leaving()))
        await asyncio.sleep(LAST_CALLS_S)
        while self.calls:
            await asyncio.wait(self.calls)
        for connection in list(self.connections):
            connection.leave()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        elif self._socket is not None:
            self._socket.close()

    async def answer(self, asked: Asked) -> bytes:
        """The frame that answers; one that says so where answering failed."""
        try:
            origin, rows = await self._answering(asked.items, asked.queued, asked.traces)
            return encoded(Answered(asked.number, origin, rows))
        except Exception as error:  # as with any remote call: the caller is told, and goes on
            return encoded(Failed(asked.number, f"{type(error).__name__}: {error}"[:500]))


def _bound(name: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(name)
    bound.listen(BACKLOG)
    return bound


class _Connection(asyncio.Protocol):
    """One gateway's connection."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._listener.is_closing or not is_same_user(transport.get_extra_info("socket")):
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)
        self._listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        try:
            for frame in self._reader.read(data):
                if not isinstance(frame, Asked):
                    raise FrameBroken(f"a gateway sent {type(frame).__name__}")
                self._begin(frame)
        except FrameBroken:
            self._transport.abort()

    def _begin(self, asked: Asked) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(asked))
        self._listener.calls.add(task)
        task.add_done_callback(self._listener.calls.discard)

    async def _answer(self, asked: Asked) -> None:
        self.say(await self._listener.answer(asked))

    def say(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.discard(self)
        self._transport = None
