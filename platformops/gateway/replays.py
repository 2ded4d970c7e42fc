"""One answer for one idempotency key: what is sent again gets the answer it got, and another body is refused.

A prediction changes nothing, so asking twice does no harm by itself; the key spares the second computation, and keeps
a client that sends again from being counted twice or answered by another version.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b

from platformops.gateway.replies import Refused, Reply

HEADER = b"idempotency-key"
KEY = re.compile(rb"[\x21-\x7e]{1,255}")
KEEP_S = 600.0
MAX_KEYS = 10_000
MAX_BYTES = 16 * 1024 * 1024
"""Of the answers that are kept; beyond it, and beyond MAX_KEYS, the oldest are forgotten and would be made again."""
REPLAYED = {b"idempotency-replayed": b"true"}
REUSED = Refused(409, "idempotency_key_reused", "this Idempotency-Key came with another body before")

ReplayKey = tuple[str, str, bytes]
"""Of the caller's key, the system, and the Idempotency-Key: no caller meets the answers of another."""


@dataclass(slots=True)
class _Kept:
    digest: bytes
    reply: asyncio.Future[Reply | None]
    """None when there was no answer worth keeping, so that whoever waits has to ask for itself."""
    until: float = float("inf")


class Replays:
    """Use from one event loop. Answers live in this process only: after a restart they are computed again."""

    def __init__(self, *, keep_s: float = KEEP_S, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._keep_s = keep_s
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        self._making: dict[ReplayKey, _Kept] = {}
        self._made: dict[ReplayKey, _Kept] = {}
        """Oldest first."""
        self._num_bytes = 0

    async def once(
        self, key: ReplayKey, digest: bytes, produce: Callable[[], Awaitable[Reply]], *, now: float
    ) -> tuple[Reply, bool]:
        """The one reply of `key`, and whether it had been made before; a refusal is not kept, and raised on.

        Raises Refused (409) when `key` came with another `digest`.
        """
        self._forget(now)
        while (kept := self._made.get(key) or self._making.get(key)) is not None:
            if kept.digest != digest:
                raise REUSED
            reply = await asyncio.shield(kept.reply)
            if reply is not None:
                return replace(reply, headers={**reply.headers, **REPLAYED}), True
        return await self._make(key, digest, produce), False

    async def _make(self, key: ReplayKey, digest: bytes, produce: Callable[[], Awaitable[Reply]]) -> Reply:
        loop = asyncio.get_running_loop()
        kept = self._making[key] = _Kept(digest, loop.create_future())
        reply: Reply | None = None
        try:
            reply = await produce()
            kept.until = loop.time() + self._keep_s
            self._made[key] = kept
            self._num_bytes += len(reply.body)
            return reply
        finally:
            del self._making[key]
            kept.reply.set_result(reply)

    def _forget(self, now: float) -> None:
        """What is too old, and the oldest of what is too much."""
        while self._made:
            key, kept = next(iter(self._made.items()))
            if kept.until > now and len(self._made) <= self._max_keys and self._num_bytes <= self._max_bytes:
                return
            del self._made[key]
            reply = kept.reply.result()
            self._num_bytes -= len(reply.body) if reply else 0


def idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The one Idempotency-Key of a request, None without; raises Refused (400) for an odd one."""
    values = [value for name, value in headers if name == HEADER]
    if not values:
        return None
    if len(values) > 1 or not KEY.fullmatch(values[0]):
        raise Refused(400, "bad_idempotency_key", "send one Idempotency-Key of 1 to 255 visible ASCII characters")
    return values[0]


def digest_of(parts: Iterable[bytes]) -> bytes:
    """Of the parts and where each ends; the same images in another envelope are the same request."""
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(b"%d:" % len(part))
        state.update(part)
    return state.digest()
