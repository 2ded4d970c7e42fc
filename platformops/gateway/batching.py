"""Requests that wait meanwhile travel together: the next call leaves when the last one returns.

One lane a revision. A call to a replica costs about a millisecond whatever it carries, so sharing it is worth a
factor of ten under load and costs a lone request nothing. No timer is needed for that but beside a crowded lane: a
revision with a small share of a full load would call for every request, at the cost of all the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from platformops.gateway.call import Answer, Call, ReplicaDied, RevisionUnavailable, RevisionUnknown
from platformops.gateway.trace_context import Carried, Trail

LOG = logging.getLogger(__name__)
HOLD_S = 0.02
"""How long the few items of a lane wait for more while a lane beside it is crowded."""
CROWDED_RATIO = 4
"""Times as many items wait in a lane that is crowded beside another one."""
FIRST_ATTEMPT_SHARE = 0.5
"""Of the time left: a call that has said nothing by then is asked of another replica."""
RETRY_RATIO = 0.1
RETRY_FLOOR = 10.0
"""A lane may always retry ten calls; more only as a tenth of its traffic, so that retries never feed an overload."""

DEADLINE = Answer(504, code="deadline_exceeded", message="no answer within the deadline of this system")
DIED = Answer(503, code="replica_died", message="the replica stopped while it had this request; send it again")
UNAVAILABLE = Answer(503, code="unavailable", message="no replica can take this request now")
UNKNOWN = Answer(404, code="unknown_revision", message="there is no such revision")
BROKEN = Answer(500, code="replica_failed", message="the replica failed on this request")


class QueueFull(Exception):
    """As many items wait as the system allows; answered at once instead of made to wait."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(eq=False, slots=True)
class Waiting:
    """One request in a lane: its items leave in order, in one call or several."""

    caller: str
    items: Sequence[bytes]
    deadline: float
    done: asyncio.Future[list[Answer]]
    answers: list[Answer | None]
    since: float
    """Loop time of arrival."""
    trail: Trail | None = None
    """Of one that is traced: told of each call that carried items of it."""
    sent: int = 0
    num_calls: int = 0
    """Calls on their way that carry items of it."""
    is_gone: bool = False
    """Its client has hung up."""
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.items)

    @property
    def unsent(self) -> int:
        return len(self.items) - self.sent

    def settle_if_gone(self) -> None:
        """A request without a client ends when no call holds its bytes any more."""
        if self.is_gone and self.num_calls == 0 and not self.done.done():
            self.done.set_exception(ClientGone())


@dataclass(frozen=True, slots=True)
class Slice:
    """The items `start` to `stop` of one waiting request, on their way in one call."""

    waiting: Waiting
    start: int
    stop: int

    def deliver(self, answers: Sequence[Answer]) -> None:
        waiting = self.waiting
        waiting.answers[self.start : self.stop] = answers
        waiting.missing -= self.stop - self.start
        if waiting.missing == 0 and not waiting.is_gone and not waiting.done.done():
            waiting.done.set_result([a for a in waiting.answers if a is not None])


class Lane:
    """The queue in front of one revision. Use from one event loop."""

    def __init__(
        self,
        revision: str,
        *,
        call: Call,
        width: Callable[[], int],
        batch: int = 64,
        max_queue: int = 512,
        beside: Callable[[], Iterable[Lane]] = tuple,
    ) -> None:
        """`beside` gives the lanes, this one perhaps included, that share the processor's time with it."""
        self.revision = revision
        self.batch = batch
        """Most items of one call."""
        self.max_queue = max_queue
        """Most items that wait to leave."""
        self.arriving = 0
        """Requests let in by their heads and not yet carried out: under a flood hundreds in one turn of the loop."""
        self.users = 0
        """Requests that hold the lane, also while their bodies are still being read."""
        self.queued = 0
        self.in_flight = 0
        self._call = call
        self._width = width
        self._beside = beside
        self._hold: asyncio.TimerHandle | None = None
        self._callers: dict[str, dict[Waiting, None]] = {}
        self._calls: dict[asyncio.Task[None], list[Slice]] = {}
        self._retries_left = RETRY_FLOOR

    @property
    def is_idle(self) -> bool:
        return not (self._callers or self._calls or self.users or self.arriving)

    @property
    def is_full(self) -> bool:
        return self.queued + self.arriving >= self.max_queue

    async def submit(
        self,
        items: Sequence[bytes],
        *,
        caller: str,
        deadline: float,
        when_gone: Callable[[Callable[[], None]], None] = lambda call: None,
        trail: Trail | None = None,
    ) -> list[Answer]:
        """One answer an item, at `deadline` (loop time) at the latest. Raises QueueFull at once, or ClientGone.

        Callers take turns, so that one with a long queue does not starve the others. `when_gone` is given what is to
        be called when the client hangs up: the request then leaves the queue at once, and a call that carries
        nothing else is cancelled. `trail` is told of each call that returned with items of it.
        """
        if self.queued + len(items) > self.max_queue:
            raise QueueFull(self.revision)
        loop = asyncio.get_running_loop()
        answers: list[Answer | None] = [None] * len(items)
        waiting = Waiting(caller, items, deadline, loop.create_future(), answers, loop.time(), trail)
        self._callers.setdefault(caller, {})[waiting] = None
        self.queued += len(items)
        timer = loop.call_at(deadline, self._expire, waiting)
        when_gone(partial(self._hang_up, waiting))
        self._send()
        try:
            return await waiting.done
        finally:
            timer.cancel()
            self._drop(waiting)

    def _expire(self, waiting: Waiting) -> None:
        self._drop(waiting)
        if not waiting.done.done():
            waiting.done.set_result([DEADLINE] * len(waiting.items))

    def _hang_up(self, waiting: Waiting) -> None:
        waiting.is_gone = True
        self._drop(waiting)
        waiting.settle_if_gone()
        for call, batch in self._calls.items():
            if all(s.waiting.is_gone for s in batch):
                call.cancel()

    def _drop(self, waiting: Waiting) -> None:
        """Nothing more of it is sent."""
        requests = self._callers.get(waiting.caller, {})
        if waiting not in requests:
            return
        del requests[waiting]
        self.queued -= waiting.unsent
        if not requests:
            del self._callers[waiting.caller]

    def _send(self) -> None:
        if self._hold is not None or not self._callers or len(self._calls) >= self._width():
            return
        if any(lane.is_crowded_beside(self) for lane in self._beside()):
            self._hold = asyncio.get_running_loop().call_later(HOLD_S, self._leave)
        else:
            self._leave()

    def is_crowded_beside(self, other: Lane) -> bool:
        """Whether this lane is so full that each call of the other one costs many here."""
        return bool(self._calls) and self.queued > CROWDED_RATIO * other.queued

    def _leave(self) -> None:
        self._hold = None
        while self._callers and len(self._calls) < self._width():
            self._start(self._take())

    def _take(self) -> list[Slice]:
        """Up to `batch` items, a request of each caller in turn."""
        batch: list[Slice] = []
        room = self.batch
        while room and self._callers:
            waiting = next(iter(next(iter(self._callers.values()))))
            taken = min(room, waiting.unsent)
            batch.append(Slice(waiting, waiting.sent, waiting.sent + taken))
            waiting.sent += taken
            room -= taken
            self._took(waiting, taken)
        return batch

    def _took(self, waiting: Waiting, taken: int) -> None:
        """Account for `taken` items of a request, and let the next caller have its turn."""
        self.queued -= taken
        requests = self._callers.pop(waiting.caller)
        if waiting.unsent == 0:
            del requests[waiting]
        if requests:
            self._callers[waiting.caller] = requests

    def _start(self, batch: list[Slice]) -> None:
        for s in batch:
            s.waiting.num_calls += 1
        task = asyncio.get_running_loop().create_task(self._carry(batch))
        self._calls[task] = batch
        task.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        for s in self._calls.pop(task):
            s.waiting.num_calls -= 1
            s.waiting.settle_if_gone()
        self._send()

    async def _carry(self, batch: list[Slice]) -> None:
        items = [item for s in batch for item in s.waiting.items[s.start : s.stop]]
        self.in_flight += len(items)
        self._retries_left = min(RETRY_FLOOR, self._retries_left + RETRY_RATIO)
        sent_at = asyncio.get_running_loop().time()
        spans = {s.waiting: (s.waiting.trail, s.waiting.trail.begin()) for s in batch if s.waiting.trail}
        traces = [trail.traceparent(span_id) for trail, span_id in spans.values()]
        try:
            answers = await self._ask(items, max(s.waiting.deadline for s in batch), traces)
        finally:
            self.in_flight -= len(items)
        position = 0
        for s in batch:
            size = s.stop - s.start
            if s.waiting in spans:
                trail, span_id = spans[s.waiting]
                trail.calls.append(_carried(span_id, s.waiting.since, sent_at, answers))
            s.deliver(answers[position : position + size])
            position += size

    async def _ask(self, items: Sequence[bytes], deadline: float, traces: Sequence[str]) -> Sequence[Answer]:
        """One answer an item, whatever happens: predictions are idempotent, so a lost call is tried once more."""
        now = asyncio.get_running_loop().time()
        try:
            return await self._attempt(items, now + FIRST_ATTEMPT_SHARE * (deadline - now), traces)
        except (ReplicaDied, TimeoutError) as lost:
            failure = DEADLINE if isinstance(lost, TimeoutError) else DIED
            if self._retries_left < 1:
                return [failure] * len(items)
            self._retries_left -= 1
        except Exception as error:
            return [_failure_of(error)] * len(items)
        try:
            return await self._attempt(items, deadline, traces)
        except Exception as error:
            return [_failure_of(error)] * len(items)

    async def _attempt(self, items: Sequence[bytes], deadline: float, traces: Sequence[str]) -> Sequence[Answer]:
        async with asyncio.timeout_at(deadline):
            answers = await self._call(self.revision, items, deadline=deadline, queued=self.queued, traces=traces)
        return answers if len(answers) == len(items) else [BROKEN] * len(items)


def _carried(span_id: str, since: float, sent_at: float, answers: Sequence[Answer]) -> Carried:
    first, now = answers[0], asyncio.get_running_loop().time()
    return Carried(span_id, since, sent_at, now, len(answers), first.node, first.stages_s)


def _failure_of(error: Exception) -> Answer:
    match error:
        case TimeoutError():
            return DEADLINE
        case ReplicaDied():
            return DIED
        case RevisionUnavailable():
            return UNAVAILABLE
        case RevisionUnknown():
            return UNKNOWN
        case _:
            LOG.error("a call to a replica failed with %s: %s", type(error).__name__, error)
            return BROKEN
