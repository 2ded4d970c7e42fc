"""One JSON line a request: no body, no key, no character that a terminal or a log parser would obey."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import IO

from platformops.gateway.exchange import Exchange
from platformops.observation.log_lines import line as log_line
from platformops.store.records import Json

CLIENT_ERROR, SERVER_ERROR = 400, 500


def line(exchange: Exchange) -> str:
    """The record as one line of ASCII; JSON escapes line breaks, ANSI codes and all that is not ASCII."""
    is_ok = exchange.status < SERVER_ERROR
    ecs: dict[str, Json] = {
        "event.outcome": "success" if exchange.status < CLIENT_ERROR else "failure",
        "event.duration": int(exchange.seconds * 1e9),
        "http.request.id": exchange.request_id,
        "http.request.method": exchange.method,
        "http.request.body.bytes": exchange.body_bytes,
        "http.response.status_code": exchange.status,
        "url.path": exchange.path,
        "trace.id": exchange.trace_id,
    }
    about: dict[str, Json] = {
        "system": exchange.system,
        "revision": exchange.revision,
        "version": exchange.model_version,
        "node": exchange.node,
        "key_id": exchange.key_id,
        "items": exchange.items,
    }
    if exchange.client:
        ecs["client.ip"] = exchange.client
    if exchange.is_replay:
        about["replay"] = True
    if exchange.code:
        ecs["error.code"] = exchange.code
    if exchange.fault:
        ecs["error.type"] = exchange.fault
    message = f"answered {exchange.status} {exchange.code}".rstrip()
    return log_line(exchange.at, "request", message, level="info" if is_ok else "error", ecs=ecs, about=about)


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
