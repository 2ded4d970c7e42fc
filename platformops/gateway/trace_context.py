"""Which trace a request belongs to, by W3C Trace Context (https://www.w3.org/TR/trace-context/, level 1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
VERSION_BYTES = 55
"""Of a header of version 00, after which nothing may follow."""


@dataclass(frozen=True, slots=True)
class Traces:
    """Where traces go, and of how many requests whose clients say nothing of it."""

    endpoint: str = ""
    """Base URL of an OTLP/HTTP receiver; nothing is traced without one."""
    ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Parent:
    """The span of the client that made the request."""

    trace_id: str
    span_id: str
    is_sampled: bool


@dataclass(frozen=True, slots=True)
class Carried:
    """One call that carried items of a request; instants in loop time."""

    since: float
    """When they began to wait for it."""
    sent_at: float
    returned_at: float
    items: int
    """Of the whole call."""
    node: str
    stages_s: tuple[float, ...]
    """Seconds of the replica in decode, transform and model; empty where it did not say."""


def parent_of(headers: Sequence[tuple[bytes, bytes]]) -> Parent | None:
    """What `traceparent` names; None without it, and for one that breaks the grammar, which is as good as none."""
    for name, value in headers:
        if name == b"traceparent":
            match = TRACEPARENT.fullmatch(value)
            if match is None or (value.startswith(b"00") and len(value) != VERSION_BYTES):
                return None
            return Parent(match[1].decode(), match[2].decode(), bool(int(match[3], 16) & 1))
    return None


def trace_id_of(request_id: str) -> str:
    """The trace of a request that named none: its own id, filled up to 32 digits, so that each leads to the other."""
    return request_id.rjust(32, "0")
