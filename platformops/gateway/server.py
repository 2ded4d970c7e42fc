"""Runs an ASGI application under the bounded protocol on one socket that several processes may share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import cast

import uvicorn

from platformops.gateway.connections import Connections
from platformops.gateway.protocol import BoundedProtocol, HttpLimits, Shed
from platformops.gateway.request import Receive, Scope, Send

SWEEP_S = 0.5
BACKLOG = 4096
MAX_GRACE_S = 10
"""How long requests in hand may take when the server stops."""


def bind(host: str, port: int) -> socket.socket:
    """A listening address; `port=0` picks a free one. Raises OSError when somebody else's socket has it.

    SO_REUSEPORT lets a restarted gateway, or several of one owner, take the same port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


class HttpServer:
    """One server in one event loop."""

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], object],
        *,
        limits: HttpLimits,
        new_id: Callable[[], str],
        shed: Shed = lambda scope: None,
    ) -> None:
        """`shed` is asked about each request before the application is called."""
        self._limits = limits
        self._book: Connections[BoundedProtocol] = Connections(
            most=limits.max_connections, most_per_client=limits.max_connections_per_client
        )
        protocol = partial(BoundedProtocol, limits=limits, book=self._book, new_id=new_id, shed=shed)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", protocol),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # the access log is ours; what uvicorn would say names addresses and paths
                access_log=False,
                server_header=False,
                proxy_headers=False,  # else any local client could claim to be any address
                backlog=BACKLOG,
                timeout_keep_alive=limits.idle_timeout_s,
                timeout_graceful_shutdown=MAX_GRACE_S,
            )
        )

    @property
    def is_started(self) -> bool:
        return self._server.started

    @property
    def num_connections(self) -> int:
        return self._book.num_connections

    def stop(self) -> None:
        """Take no new connection, answer what is in hand, then let `serve` return."""
        self._server.should_exit = True

    async def serve(self, bound: socket.socket) -> None:
        """Serve on `bound` until `stop`."""
        sweeper = asyncio.get_running_loop().create_task(self._sweep())
        try:
            await self._server._serve([bound])  # `serve` would take over the signals of a process that is not ours
        finally:
            sweeper.cancel()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SWEEP_S
            await asyncio.sleep(SWEEP_S)
            # Late ourselves, we cannot tell who was: bytes that nobody read yet wait in the kernel.
            now = loop.time() - (late_s if (late_s := loop.time() - due) > SWEEP_S else 0.0)
            for connection in self._book.overdue(before=now - self._limits.head_timeout_s):
                connection.give_up_on_head()
            for other in list(self._server.server_state.connections):
                if isinstance(other, BoundedProtocol):
                    other.sweep(now)
