"""A transport whose `close` lets the last answer arrive even when the client is still sending.

Closing a socket with unread bytes in it makes the kernel reset the connection, and the client loses the answer that
says why. So our side is shut first, what still comes is dropped unread, and soon the rest is closed.
"""

from __future__ import annotations

import asyncio
from typing import Any


class LingeringTransport(asyncio.Transport):
    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop, linger_s: float) -> None:
        super().__init__()
        self._inner = inner
        self._loop = loop
        self._linger_s = linger_s
        self._end: asyncio.TimerHandle | None = None
        self.write = inner.write  # type: ignore[method-assign]
        self.owes_body = False
        """Whether the client may still be sending what nobody will read."""

    @property
    def is_lingering(self) -> bool:
        return self._end is not None

    def close(self) -> None:
        """Close now, or after `linger_s` at most when the client owes the rest of a body."""
        if self._end is not None or self._inner.is_closing():
            return
        if not self.owes_body or not self._inner.can_write_eof():
            self._end = self._loop.call_later(self._linger_s, self._inner.abort)
            self._inner.close()
            return
        self._end = self._loop.call_later(self._linger_s, self._inner.abort)
        self._inner.write_eof()
        self._inner.resume_reading()

    def finish(self) -> None:
        """All of the body has come: a connection that only lingers for it need not do so any longer."""
        if self._end is not None and not self._inner.is_closing():
            self._inner.close()

    def forget(self) -> None:
        """The connection is gone: no timer is left behind."""
        if self._end is not None:
            self._end.cancel()

    def is_closing(self) -> bool:
        return self._end is not None or self._inner.is_closing()

    def abort(self) -> None:
        self._inner.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  asyncio's own signature
        return self._inner.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._inner.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner.set_protocol(protocol)
