"""Which trace a request belongs to, by W3C Trace Context (https://www.w3.org/TR/trace-context/, level 1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

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

    span_id: str
    since: float
    """When they began to wait for it."""
    sent_at: float
    returned_at: float
    items: int
    """Of the whole call."""
    node: str
    stages_s: tuple[float, ...]
    """Seconds of the replica in decode, transform and model; empty where it did not say."""


@dataclass(slots=True)
class Trail:
    """The calls of one request that is traced; each has its span from the start, so that the replica can be told."""

    request_id: str
    trace_id: str
    calls: list[Carried] = field(default_factory=list)
    """That have returned."""
    num_begun: int = 0

    def begin(self) -> str:
        """The id of the next call's span."""
        self.num_begun += 1
        return blake2b(f"{self.request_id}/{self.num_begun}".encode(), digest_size=8).hexdigest()

    def traceparent(self, span_id: str) -> str:
        """What leads to that span, as a `traceparent` header has it."""
        return f"00-{self.trace_id}-{span_id}-01"


def parent_of(headers: Sequence[tuple[bytes, bytes]]) -> Parent | None:
    """What `traceparent` names; None without it, and for one that breaks the grammar, which is as good as none."""
    return next((named_by(value) for name, value in headers if name == b"traceparent"), None)


def named_by(traceparent: bytes) -> Parent | None:
    """See `parent_of`."""
    match = TRACEPARENT.fullmatch(traceparent)
    if match is None or (traceparent.startswith(b"00") and len(traceparent) != VERSION_BYTES):
        return None
    return Parent(match[1].decode(), match[2].decode(), bool(int(match[3], 16) & 1))


def trace_id_of(request_id: str) -> str:
    """The trace of a request that named none: its own id, filled up to 32 digits, so that each leads to the other."""
    return request_id.rjust(32, "0")
