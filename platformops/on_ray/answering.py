"""Whether a server of Ray answers, told in microseconds: the greeting of HTTP/2, which needs neither gRPC nor a token.

A server sends its SETTINGS as soon as it has read the client's preface (RFC 9113, section 3.4), so one that is held
still does not, although the kernel accepts connections for it.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from enum import Enum

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The preface, and a SETTINGS frame that sets nothing."""


class Answer(Enum):
    ANSWERED = "answered"
    WAITING = "waiting"
    REFUSED = "refused"


class Question:
    """One greeting on its way; asked again later, it goes on waiting for the same answer."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def wait(self, timeout_s: float) -> Answer:
        """After an answer or a refusal the next call greets anew."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, timeout=timeout_s)
                self._socket.sendall(GREETING)
            if not select.select([self._socket], [], [], timeout_s)[0]:
                return Answer.WAITING
            answer = Answer.ANSWERED if self._socket.recv(9) else Answer.REFUSED
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            answer = Answer.REFUSED
        except OSError:
            # Out of time, or no way there: a network that is down says nothing of the server behind it.
            answer = Answer.WAITING
        self.close()
        return answer

    def close(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None
