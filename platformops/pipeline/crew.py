"""The threads in which attempts block, and the one queue by which they answer the thread that decides."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from platformops.pipeline.attempt import Attempts, Damaged, Parent, Published
from platformops.pipeline.journal import Lease
from platformops.pipeline.records import Failure, Step
from platformops.pipeline.wire import CRASHED, STOPPED, News

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

FREE_CRASHES = 2
"""Attempts that cost none of the stage's `retries`: a killed process is the machine's failure, not the stage's."""

MOST_NEWS = 1000
"""Taken in one turn, and kept waiting: between turns the run renews its leases and sees that it was cancelled."""

Outcome = Published | Damaged | Failure


@dataclass(slots=True, eq=False)
class Active:
    """A step whose lease is ours: being tried, or resting before it is tried again."""

    step: Step
    lease: Lease
    renewed_at: float
    stop: threading.Event = field(default_factory=threading.Event)
    is_trying: bool = False
    rest_until: float = 0.0
    num_failures: int = 0
    num_crashes: int = 0
    pause_ends_at: float | None = None
    """While the disk has no room for it: when waiting for some is given up."""
    is_lost: bool = False
    """Another owner has the step: what our attempt still brings is not written."""

    @property
    def name(self) -> str:
        return self.step.stage.name

    def may_retry(self, failure: Failure) -> bool:
        """Counts the failure, and says whether the step has an attempt left."""
        if failure.final or failure.kind == STOPPED:
            return False
        if failure.kind == CRASHED and self.num_crashes < FREE_CRASHES:
            self.num_crashes += 1
            return True
        self.num_failures += 1
        return self.num_failures <= self.step.stage.retries


class Crew:
    def __init__(self, attempts: Attempts, size: int) -> None:
        self._attempts, self._size = attempts, size
        self._pool: ThreadPoolExecutor | None = None
        # Bounded: a stage that prints faster than the log takes it waits, instead of filling the memory.
        self._queue: queue.Queue[tuple[Active, News | Outcome | BaseException]] = queue.Queue(MOST_NEWS)

    def start(self, active: Active, parents: Mapping[str, Parent]) -> None:
        """Tries the step in a thread of its own; its outcome comes by `news`."""
        active.is_trying = True
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # a cached run starts no thread, and need not import it

            self._pool = ThreadPoolExecutor(self._size, thread_name_prefix="attempt")
        self._pool.submit(self._work, active, parents, lambda news: self._queue.put((active, news)))

    def news(self, timeout_s: float) -> Iterator[tuple[Active, News | Outcome]]:
        """What has come, after waiting at most that long for the first; some of it when it comes without end."""
        with suppress(queue.Empty):
            yield self._opened(self._queue.get(timeout=timeout_s))
            for _ in range(MOST_NEWS):
                yield self._opened(self._queue.get_nowait())

    def stop(self, actives: Collection[Active]) -> list[tuple[Active, Published]]:
        """Ends the attempts of `actives` and waits for their threads; what was published all the same."""
        published = []
        for active in actives:
            active.stop.set()
        while any(active.is_trying for active in actives):
            active, news = self._queue.get()
            active.is_trying = active.is_trying and isinstance(news, News)
            if isinstance(news, Published):
                published.append((active, news))
        return published

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()

    def _work(self, active: Active, parents: Mapping[str, Parent], on_news: Callable[[News], None]) -> None:
        try:
            outcome = self._attempts.attempt(active.step, parents, stop=active.stop, on_news=on_news)
        except BaseException as error:  # not swallowed: `news` raises it in the thread that decides
            self._queue.put((active, error))
        else:
            self._queue.put((active, outcome))

    @staticmethod
    def _opened(item: tuple[Active, News | Outcome | BaseException]) -> tuple[Active, News | Outcome]:
        active, news = item
        if not isinstance(news, News):
            active.is_trying = False
        if isinstance(news, BaseException):
            raise news
        return active, news
