"""One JSON line a request: no body, no key, no character that a terminal or a log parser would obey."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import IO

from platformops.gateway.exchange import Exchange


def line(exchange: Exchange) -> str:
    """The record as one line of ASCII; JSON escapes line breaks, ANSI codes and all that is not ASCII."""
    record: dict[str, object] = {
        "at": round(exchange.at, 3),
        "event": "request",
        "request_id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "seconds": round(exchange.seconds, 6),
        "client": exchange.client,
        "system": exchange.system,
        "revision": exchange.revision,
        "model_version": exchange.model_version,
        "key_id": exchange.key_id,
        "items": exchange.items,
        "body_bytes": exchange.body_bytes,
    }
    if exchange.is_replay:
        record["replay"] = True
    if exchange.code:
        record["code"] = exchange.code
    if exchange.fault:
        record["fault"] = exchange.fault
    return json.dumps(record)


class AccessLog:
    """Appends to `path` and keeps one older file beside it: never more than twice `max_bytes` on disk.

    Records are kept as they are; `flush` is called by the owner about once a second, and makes lines of them off the
    request path.
    """

    def __init__(self, path: Path, *, max_bytes: int = 50 * 1024 * 1024) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._waiting: list[Exchange] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()

    def __call__(self, exchange: Exchange) -> None:
        self._waiting.append(exchange)

    def flush(self) -> None:
        """Write what is buffered; a full disk costs log lines, never answers."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            self._file.write("".join(line(exchange) + "\n" for exchange in waiting))
            self._file.flush()
            if self._file.tell() > self._max_bytes:
                self._rotate()
        except OSError:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = self._open()

    def close(self) -> None:
        self.flush()
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_suffix(".old" + self._path.suffix))
        self._file = self._open()

    def _open(self) -> IO[str]:
        return self._path.open("a", encoding="ascii")
