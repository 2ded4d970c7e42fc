"""A bad network between a client and a server on loopback: late, narrow, lossy, half open, or down."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

CHUNK_BYTES = 16 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST and no FIN


@dataclass
class Weather:
    """How the network is at this moment; set its fields whenever you like."""

    delay_s: float = 0.0
    """Each way, for each chunk."""
    bytes_per_s: float | None = None
    """Each way, for each connection."""
    loss_ratio: float = 0.0
    """Share of chunks at which the connection breaks down; TCP shows lesser losses as delay only."""
    is_half_open: bool = False
    """Connections stay, and what the server says gets lost: the peer is gone without a word."""
    is_down: bool = False
    """Every connection is reset, and new ones at once."""


class TcpProxy:
    """Listens on `port` of 127.0.0.1 for the server on `target`; `seed` makes its losses repeatable."""

    def __init__(self, target: int, *, weather: Weather | None = None, seed: int = 0) -> None:
        self.weather = weather or Weather()
        self.num_connections = 0
        self._target, self._luck = target, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._served: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._is_ended = False
        self._server: asyncio.Server = self._done(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._done(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _done(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self) -> None:
        self._is_ended = True
        # A server that is closed while it accepts loses that connection (its `_attach` fails), so it stops that first.
        for listening in self._server.sockets:
            self._loop.remove_reader(listening.fileno())
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._served:
                task.cancel()
            await asyncio.wait(left)
        self._server.close()
        for transport in list(self._loop._transports.values()):  # type: ignore[attr-defined]  # that nobody has yet
            transport.abort()
        await asyncio.sleep(0)  # they hear of their end
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_ended:
            _close(writer, is_broken=True)
            return
        task = self._loop.create_task(self._serve(reader, writer))
        self._served[task] = writer
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        writer = self._served.pop(task)
        if not writer.is_closing():  # a task that is cancelled before its first step closes nothing itself
            _close(writer, is_broken=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        upstream: asyncio.StreamWriter | None = None
        is_broken = True
        try:
            if self.weather.is_down:
                raise ConnectionResetError
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, upstream, answers=False))
                pumps.create_task(self._pump(answers, writer, answers=True))
            is_broken = False
        except* OSError:
            pass  # a broken connection is what this is for: both sides are told below
        finally:
            for side in (writer, upstream):
                if side is not None:
                    _close(side, is_broken)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
        while chunk := await source.read(CHUNK_BYTES):
            weather = self.weather
            rate_s = len(chunk) / weather.bytes_per_s if weather.bytes_per_s else 0.0
            if weather.delay_s or rate_s:
                await asyncio.sleep(weather.delay_s + rate_s)
            if weather.is_down or self._luck.random() < weather.loss_ratio:
                raise ConnectionResetError
            if weather.is_half_open and answers:
                continue
            sink.write(chunk)
            await sink.drain()
        if not (self.weather.is_half_open and answers):
            with suppress(OSError):
                sink.write_eof()


def _close(side: asyncio.StreamWriter, is_broken: bool) -> None:
    if is_broken:
        with suppress(OSError):
            side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        side.transport.abort()
    side.close()
