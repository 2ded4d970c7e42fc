"""What the gateway saw of each revision on each node, as the controller reads it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from platformops.delivery.evidence import COUNTS, Memory, Tallies, Tally, bucket_of, remembered
from platformops.gateway.call import Answer, Call

MEMORY_EVERY_S = 1.0
"""Between two samples of a replica's memory."""


@dataclass(slots=True)
class Counts:
    """A tally that is still being counted."""

    counts: dict[str, int] = field(default_factory=dict)
    latencies: dict[int, int] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    sampled_at: dict[str, float] = field(default_factory=dict)

    def frozen(self) -> Tally:
        counts = {name: self.counts.get(name, 0) for name in COUNTS}
        return Tally(**counts, latencies=dict(self.latencies), memory=dict(self.memory))


class Book:
    """Counts by revision and node. Written on the gateway's loop, read from any thread."""

    def __init__(self, source: str, now: Callable[[], float]) -> None:
        """`source` names this life of the gateway; `now` is in seconds that never jump."""
        self._source, self._now = source, now
        self._lock = threading.Lock()
        self._revisions: dict[str, dict[str, Counts]] = {}

    def add(self, revision: str, node: str, *names: str) -> None:
        """One more of each of `names`, fields of Tally."""
        with self._lock:
            counts = self._of(revision, node).counts
            for name in names:
                counts[name] = counts.get(name, 0) + 1

    def called(self, revision: str, node: str, seconds: float) -> None:
        """A call returned after so long."""
        bucket = bucket_of(1000 * seconds)
        with self._lock:
            latencies = self._of(revision, node).latencies
            latencies[bucket] = latencies.get(bucket, 0) + 1

    def sampled(self, revision: str, node: str, replica: str, resident_bytes: int) -> None:
        """A replica told its memory; what comes sooner than a second after the last sample is left out."""
        now = self._now()
        with self._lock:
            own = self._of(revision, node)
            if resident_bytes <= 0 or now - own.sampled_at.get(replica, now - MEMORY_EVERY_S) < MEMORY_EVERY_S:
                return
            own.sampled_at[replica] = now
            own.memory[replica] = remembered(own.memory.get(replica, Memory()), resident_bytes)

    def keep_only(self, revisions: Iterable[str]) -> None:
        """Forgets revisions that run no more."""
        with self._lock:
            wanted = set(revisions)
            self._revisions = {name: nodes for name, nodes in self._revisions.items() if name in wanted}

    def tallies(self) -> Tallies:
        with self._lock:
            revisions = {r: {n: c.frozen() for n, c in nodes.items()} for r, nodes in self._revisions.items()}
        return Tallies(self._source, revisions)

    def _of(self, revision: str, node: str) -> Counts:
        return self._revisions.setdefault(revision, {}).setdefault(node, Counts())


@dataclass(slots=True)
class Copying:
    """Copies of requests that this gateway has begun, and those of them that are under way."""

    begun: int = 0
    under_way: int = 0

    def begin(self) -> None:
        self.begun += 1
        self.under_way += 1

    def end(self, _: object = None) -> None:
        self.under_way -= 1


class TimedCall:
    """A call port that times calls of one item, as those of many take longer.

    Calls beside which a copy runs are not timed: copies are load that only a release makes, and on few cores it slows
    the next request (by half, on two), which says nothing of either revision. That leaves out copies themselves.
    """

    def __init__(self, call: Call, book: Book, now: Callable[[], float], copying: Copying) -> None:
        self._call, self._book, self._now, self._copying = call, book, now, copying

    async def __call__(
        self, revision: str, items: Sequence[bytes], *, deadline: float, queued: int, traces: Sequence[str] = ()
    ) -> Sequence[Answer]:
        began, begun = self._now(), self._copying.begun
        is_alone = not self._copying.under_way
        answers = await self._call(revision, items, deadline=deadline, queued=queued, traces=traces)
        if is_alone and begun == self._copying.begun and len(answers) == 1 and answers[0].status < 500:
            self._book.called(revision, answers[0].node, self._now() - began)
        return answers
