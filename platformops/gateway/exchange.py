"""One request and its answer, as metrics, the access log and, later, evidence and samples see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from platformops.gateway.trace_context import Parent, Trail


@dataclass(slots=True)
class Exchange:
    """Filled while the request is served; observers get it once, when the answer is on its way."""

    request_id: str
    at: float
    """Epoch seconds of arrival."""
    method: str
    path: str
    """As sent, before any decoding; at most MAX_PATH_CHARS."""
    client: str
    started: float = 0.0
    """Loop time of arrival."""
    trace_id: str = ""
    """32 hex digits: of the trace that the client named, else made of the request id."""
    parent: Parent | None = None
    """The client's span, where it named one."""
    trail: Trail | None = None
    """Its calls, noted for a request that is traced."""
    system: str = ""
    """Empty until a route and a system that exists are known: what a client invents never becomes a label."""
    revision: str = ""
    model_version: str = ""
    node: str = ""
    """Of the replica that answered."""
    key_id: str = ""
    status: int = 0
    code: str = ""
    """Of the error; empty when there is none."""
    seconds: float = 0.0
    items: int = 0
    body_bytes: int = 0
    is_body_read: bool = False
    is_replay: bool = False
    """Answered from memory, for an Idempotency-Key that came before; `items` and `revision` stay empty."""
    fault: str = ""
    """Type of an unexpected error on our side; for the log only."""


MAX_PATH_CHARS = 200

Observer = Callable[[Exchange], None]
