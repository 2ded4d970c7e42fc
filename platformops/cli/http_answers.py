"""Where one HTTP answer ends among the bytes of a connection that carries one at a time."""

from __future__ import annotations

CONTENT_LENGTH = b"content-length:"


class Receiving:
    """The answer that is being received."""

    def __init__(self) -> None:
        self._received = b""

    def take(self, data: bytes) -> bytes | None:
        """The head of the answer, in small letters, once `data` has completed it; the next one begins then."""
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        head = self._received[:head_end].lower()
        at = head.find(CONTENT_LENGTH)
        length = int(head[at + len(CONTENT_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._received) < head_end + 4 + length:
            return None
        self._received = b""
        return head
