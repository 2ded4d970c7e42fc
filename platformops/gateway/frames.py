"""The bytes between a gateway and a replica on the same machine: two lengths, a head in JSON, and the bodies it sizes.

JSON and not pickle: who writes to the socket cannot make its reader run anything.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from platformops.gateway.call import Origin, Row

LENGTHS = struct.Struct("!II")
"""Bytes of the head and of all bodies together."""
MAX_HEAD_BYTES = 16 * 1024 * 1024
MAX_BODY_BYTES = 1024 * 1024 * 1024


class FrameBroken(ValueError):
    """What was read is no frame; nothing after it can be trusted."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call: its number on this connection, its items, how many more wait behind it, and the spans it belongs to."""

    number: int
    items: list[bytes]
    queued: int
    traces: tuple[str, ...] = ()
    """As `traceparent` headers."""


@dataclass(frozen=True, slots=True)
class Answered:
    number: int
    origin: Origin
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Failed:
    """The call raised; `message` says what."""

    number: int
    message: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """The replica takes no more calls, and answers those it has."""


Frame = Asked | Answered | Failed | Leaving


def encoded(frame: Frame) -> bytes:
    """The bytes of `frame`. Raises FrameBroken when they would be more than a reader takes."""
    match frame:
        case Asked(number, items, queued, traces):
            about = {"traces": traces} if traces else {}
            return _framed({"ask": number, "queued": queued, **about}, items)
        case Answered(number, origin, rows):
            told = [(status, code, message, version) for status, _, code, message, version in rows]
            return _framed({"answer": number, "origin": origin, "rows": told}, [row[1] for row in rows])
        case Failed(number, message):
            return _framed({"failed": number, "message": message}, ())
        case Leaving():
            return _framed({"leaving": True}, ())


def _framed(head: dict[str, object], bodies: Sequence[bytes]) -> bytes:
    text = json.dumps({**head, "sizes": [len(body) for body in bodies]}, separators=(",", ":")).encode()
    num_bytes = sum(map(len, bodies))
    _check(len(text), num_bytes)
    return b"".join((LENGTHS.pack(len(text), num_bytes), text, *bodies))


def _check(head_bytes: int, body_bytes: int) -> None:
    if head_bytes > MAX_HEAD_BYTES or body_bytes > MAX_BODY_BYTES:
        raise FrameBroken(f"a frame of {head_bytes} and {body_bytes} bytes")


class Reader:
    """Puts frames together from whatever pieces arrive."""

    def __init__(self) -> None:
        self._held = bytearray()

    def read(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises FrameBroken."""
        held = self._held
        held += data
        while len(held) >= LENGTHS.size:
            head_bytes, body_bytes = LENGTHS.unpack_from(held)
            _check(head_bytes, body_bytes)
            end = LENGTHS.size + head_bytes + body_bytes
            if len(held) < end:
                return
            whole = bytes(held[LENGTHS.size : end])
            del held[:end]
            yield _decoded(whole[:head_bytes], whole[head_bytes:])


def _decoded(head: bytes, body: bytes) -> Frame:
    try:
        told = json.loads(head)
        return _frame_of(told, list(_split(body, told["sizes"])))
    except (ValueError, KeyError, TypeError) as error:
        raise FrameBroken(f"{type(error).__name__}: {error}") from error


def _frame_of(told: dict[str, Any], bodies: list[bytes]) -> Frame:
    if "ask" in told:
        return Asked(int(told["ask"]), bodies, int(told["queued"]), tuple(map(str, told.get("traces", ()))))
    if "answer" in told:
        node, replica, resident_bytes, stages_s, cpu_s, address = told["origin"]
        decode_s, transform_s, model_s = stages_s
        origin = Origin(node, replica, resident_bytes, (decode_s, transform_s, model_s), cpu_s, address)
        rows = [
            (status, body, code, message, version)
            for (status, code, message, version), body in zip(told["rows"], bodies, strict=True)
        ]
        return Answered(int(told["answer"]), origin, rows)
    if "failed" in told:
        return Failed(int(told["failed"]), str(told["message"]))
    if "leaving" in told:
        return Leaving()
    raise FrameBroken(f"a head with {sorted(told)}")


def _split(body: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    if any(size < 0 for size in sizes) or sum(sizes) != len(body):
        raise FrameBroken(f"{len(body)} bytes for sizes that sum to {sum(sizes)}")
    start = 0
    for size in sizes:
        yield body[start : start + size]
        start += size
