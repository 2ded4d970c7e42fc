"""The gateway's connections to replicas on its machine: which of them are open, and which one takes the next call."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import cast

from platformops.gateway.call import Origin, ReplicaDied, Row
from platformops.gateway.frames import Answered, Asked, Failed, Frame, FrameBroken, Leaving, Reader, encoded
from platformops.security.peers import is_same_user

Told = tuple[Origin, list[Row]]
MOST_CALLS = 2
"""In one channel: one that works, and one that was tried again or waits behind a call whose caller gave up."""
OPEN_TIMEOUT_S = 2.0
STALE_S = 5.0
"""For so long after a death the number of replicas may still count the dead one."""


class ReplicaFailed(Exception):
    """The replica raised while it answered."""


class Channel(asyncio.Protocol):
    """One connection to one replica. Use from one event loop."""

    def __init__(self) -> None:
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[Told]] = {}
        self._last = 0
        self.is_leaving = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def given_up(self) -> int:
        """Calls that nobody waits for any more, and the replica may still work on."""
        return sum(1 for future in self._waiting.values() if future.done())

    @property
    def num_calls(self) -> int:
        return len(self._waiting)

    async def call(self, items: Sequence[bytes], queued: int, traces: Sequence[str] = ()) -> Told:
        """What the replica answers. Raises ReplicaDied, ReplicaFailed or FrameBroken."""
        if self._transport is None or self._transport.is_closing():
            raise ReplicaDied("its connection is closed")
        number = self._last = self._last + 1
        frame = encoded(Asked(number, list(items), queued, tuple(traces)))
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._transport.write(frame)
        return await future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.read(data):
                self._take(frame)
        except FrameBroken:
            if self._transport is not None:
                self._transport.abort()

    def _take(self, frame: Frame) -> None:
        match frame:
            case Answered(number, origin, rows):
                if (future := self._waiter(number)) is not None:
                    future.set_result((origin, rows))
            case Failed(number, message):
                if (future := self._waiter(number)) is not None:
                    future.set_exception(ReplicaFailed(message))
            case Leaving():
                self.is_leaving = True
            case Asked():
                raise FrameBroken("a replica asked")

    def _waiter(self, number: int) -> asyncio.Future[Told] | None:
        """Who waits for the answer to this call; None where nobody does any more."""
        future = self._waiting.pop(number, None)
        if future is None:
            raise FrameBroken(f"an answer to call {number}, which was not made")
        return None if future.done() else future

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ReplicaDied("its connection broke"))


class Channels:
    """Those to the replicas of one revision that are on this machine."""

    def __init__(self) -> None:
        self._open: dict[str, Channel] = {}
        self._shut: set[str] = set()
        """Addresses that could not be connected to, or were: none is ever used again."""
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._deaths: list[float] = []

    def next(self, replicas: int, now: float) -> Channel | None:
        """The channel that ought to take a call; None while not all `replicas` have one, or none can take another.

        Nobody else knows of these calls: were only some of the replicas reached like this, whoever spreads calls over
        all of them would take the busy ones for idle. One that has just died is still counted among `replicas`, and
        the others need not wait until it is not.
        """
        self._forget(now)
        missing = replicas - len(self._open)
        if not self._open or not 0 <= missing <= len(self._deaths):
            return None
        best = min(self._open.values(), key=lambda channel: (channel.given_up, channel.num_calls))
        return best if best.num_calls < MOST_CALLS else None

    def _forget(self, now: float) -> None:
        """What cannot take calls any more, and deaths that are known by now."""
        for address, channel in list(self._open.items()):
            if not channel.is_open or channel.is_leaving:
                self._shut.add(address)
                del self._open[address]
                self._deaths += [] if channel.is_leaving else [now]
        self._deaths = [at for at in self._deaths if now - at < STALE_S]

    def learn(self, address: str) -> None:
        """A replica told of its address: it is connected to meanwhile, unless it has been."""
        if not address or address in self._open or address in self._shut or address in self._opening:
            return
        task = asyncio.get_running_loop().create_task(self._connect(address))
        self._opening[address] = task
        task.add_done_callback(lambda _: self._opening.pop(address, None))

    async def _connect(self, address: str) -> None:
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                # Connected here, as uvloop takes the name of such a socket for a path.
                await loop.sock_connect(connection, f"\0{address}")
                if not is_same_user(connection):
                    raise PermissionError(f"another user listens at {address}")
                _, self._open[address] = await loop.create_unix_connection(Channel, sock=connection)
        except (OSError, TimeoutError):
            connection.close()
            self._shut.add(address)

    def close(self) -> None:
        for task in self._opening.values():
            task.cancel()
        for channel in self._open.values():
            channel.close()
        self._open.clear()
