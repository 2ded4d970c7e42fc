"""The port through which the gateway reaches replicas: what goes out, what comes back, and how it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Row = tuple[int, bytes, str, str, str]
"""Status, JSON, code, message and model version of one item."""


class Origin(NamedTuple):
    """Which replica answered a call, and what that cost it."""

    node: str
    replica: str
    resident_bytes: int
    stages_s: tuple[float, float, float]
    """In decode, transform and model."""
    cpu_s: float
    address: str = ""
    """At which a gateway on the same machine reaches it without Serve; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one replica said to one item: a prediction as JSON text, or a refusal that the client may read."""

    status: int
    """200, or the HTTP status that a request with this item deserves."""
    json: bytes = b""
    """One JSON object when `status` is 200. Encoded by the replica, so that the gateway's core does not pay for it."""
    code: str = ""
    message: str = ""
    model_version: str = ""
    node: str = ""
    """Where the replica runs; empty when no replica answered."""
    stages_s: tuple[float, ...] = ()
    """Seconds of the whole call in decode, transform and model."""

    @property
    def is_ok(self) -> bool:
        return self.status == 200


class ReplicaDied(Exception):
    """The process that had the items is gone; nothing is known of them, and another replica may be asked."""


class RevisionUnavailable(Exception):
    """No replica of this revision can take a call now."""


class RevisionUnknown(Exception):
    """Nothing is deployed under this name."""


class Call(Protocol):
    """Sends items to one replica of a revision; one answer an item, in order.

    Gives up at `deadline` (loop time) with TimeoutError; otherwise raises
    ReplicaDied, RevisionUnavailable or RevisionUnknown. Cancelling it drops the call.
    """

    def __call__(
        self, revision: str, items: Sequence[bytes], *, deadline: float, queued: int, traces: Sequence[str] = ()
    ) -> Awaitable[Sequence[Answer]]:
        """`queued` more items wait at this gateway for the same revision: what autoscaling goes by. `traces` lead to
        the spans of this call, as `traceparent` headers (W3C Trace Context), one for each traced request in it."""
        ...


class Ready(Protocol):
    """How many replicas of a revision take calls now, as far as is known; 0 for one that is not deployed."""

    def __call__(self, revision: str) -> int: ...


class Width(Protocol):
    """How many calls to a revision may be in flight: as many as it has replicas, and never less than one."""

    def __call__(self, revision: str) -> int: ...
