"""Revisions whose only replica is gone: the answer is a 503 at once instead of a wait for the next replica."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

STALE_S = 5.0
"""For so long after a death the report of a ready replica may still mean the dead one."""


@dataclass(slots=True)
class Outages:
    """Told of deaths as calls meet them, and of what is ready as it is observed; seconds of a monotonic clock."""

    _died_at: dict[str, float] = field(default_factory=dict)
    _seen_empty: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self._died_at)

    def __contains__(self, revision: str) -> bool:
        return revision in self._died_at

    def died(self, revision: str, now: float) -> None:
        self._died_at[revision] = now
        self._seen_empty.discard(revision)

    def observe(self, ready: Mapping[str, int], now: float) -> None:
        """An outage ends when a replica is ready of which it is known that it is another one."""
        for revision, died_at in list(self._died_at.items()):
            if not ready.get(revision):
                self._seen_empty.add(revision)
            elif revision in self._seen_empty or now - died_at >= STALE_S:
                del self._died_at[revision]
                self._seen_empty.discard(revision)
