"""Which connections there are, since when each waits for a request, and whom to let go when there are too many.

Full means: the one that has waited longest without ever completing a request makes room. So half-open connections,
however many, displace one another and not the clients that work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

C = TypeVar("C")


@dataclass(slots=True)
class _Client(Generic[C]):
    num_connections: int = 0
    strangers: dict[C, float] = field(default_factory=dict)
    """Waiting, and never yet completed a request: connection -> since when, oldest first."""
    idle: dict[C, float] = field(default_factory=dict)
    """Waiting between two requests, oldest first."""

    def longest_waiting(self) -> C | None:
        return next(iter(self.strangers or self.idle), None)


class Connections(Generic[C]):
    """Counts and orders connections; it opens and closes none. All figures are of one server process."""

    def __init__(self, *, most: int, most_per_client: int) -> None:
        self.most = most
        self.most_per_client = most_per_client
        self.num_connections = 0
        self._clients: dict[str, _Client[C]] = {}

    def opened(self, client: str, connection: C, now: float) -> C | None:
        """Counts a new connection; when that is one too many, the one to close for it (itself, if all are busy)."""
        its = self._clients.setdefault(client, _Client())
        its.num_connections += 1
        self.num_connections += 1
        victim: C | None = None
        if its.num_connections > self.most_per_client:
            victim = its.longest_waiting() or connection
        elif self.num_connections > self.most:
            largest = max(self._clients.values(), key=lambda c: c.num_connections)
            victim = largest.longest_waiting() or connection
        its.strangers[connection] = now
        return victim

    def waits(self, client: str, connection: C, now: float) -> None:
        """An answer has been sent: the connection waits for its next request."""
        its = self._clients.get(client)
        if its is not None:
            its.idle.pop(connection, None)
            its.idle[connection] = now

    def begins(self, client: str, connection: C, now: float) -> None:
        """The first bytes of a next request are here: from now on it has to be completed in time."""
        its = self._clients.get(client)
        if its is not None and its.idle.pop(connection, None) is not None:
            its.strangers[connection] = now

    def busy(self, client: str, connection: C) -> None:
        """A request is complete in its head: the connection waits for us, not we for it."""
        its = self._clients.get(client)
        if its is not None:
            its.strangers.pop(connection, None)
            its.idle.pop(connection, None)

    def closed(self, client: str, connection: C) -> None:
        its = self._clients.get(client)
        if its is None:
            return
        self.busy(client, connection)
        its.num_connections -= 1
        self.num_connections -= 1
        if its.num_connections <= 0:
            del self._clients[client]

    def overdue(self, *, before: float) -> Iterator[C]:
        """Connections that owe the rest of a request's head since `before` or longer."""
        for its in list(self._clients.values()):
            for connection, since in list(its.strangers.items()):
                if since > before:
                    break
                yield connection
