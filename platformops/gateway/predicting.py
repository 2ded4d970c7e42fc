"""How a predict request is carried out: rate, revision, queue, body, items, replica; refused as early as it can be."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from platformops.gateway import rates
from platformops.gateway.batching import ClientGone, Lane, QueueFull
from platformops.gateway.bodies import items_of, media_type
from platformops.gateway.call import Answer, Call, Width
from platformops.gateway.canary import CANARY_SHARE, Canary, Door, label_of
from platformops.gateway.evidence import Book, Copying, TimedCall
from platformops.gateway.heads import Headers, check_length, header
from platformops.gateway.replays import Replays, digest_of, idempotency_key
from platformops.gateway.replies import RETRY_SOON, Refused, Reply, predictions
from platformops.gateway.request import CLIENT_CLOSED, Asked, Head, read_body
from platformops.gateway.samples import Sample, Samples
from platformops.gateway.served import Served, World
from platformops.gateway.trace_context import Trail
from platformops.gateway.ways import Place, Way, way_of

QUEUE_FULL = "as many requests wait as this system allows"
COPIES = "copies"
"""The caller in whose name copies wait: they take turns with users as one of them."""


class Predicting:
    """The lanes in front of the revisions, and what keeps them from overflowing. Use from one event loop."""

    def __init__(self, *, call: Call, width: Width, max_buffered_bytes: int, book: Book, samples: Samples) -> None:
        self.lanes: dict[str, Lane] = {}
        self._samples = samples
        copying = Copying()
        self._call = TimedCall(call, book, lambda: asyncio.get_running_loop().time(), copying)
        self._canary = Canary(book, self._is_busy, samples.answered_too, copying)
        self._width = width
        self._buffered_bytes = 0
        self._max_buffered_bytes = max_buffered_bytes
        self._replays = Replays()
        self._buckets: dict[tuple[str, str], rates.Bucket] = {}

    def enter(self, head: Head, headers: Headers, world: World) -> Place:
        """The place of a request of which the head is here; raises Refused where its caller, its length or the queue
        is reason enough. Until `predict` is called with it, the request counts as one that waits."""
        served, exchange = head.served, head.exchange
        assert served is not None
        self._check_rate(head, served)
        way = way_of(headers, exchange.request_id, head.identity, served, world)
        exchange.revision = way.revision
        lane = self._open(way.entrance, served)
        if lane.is_full:
            raise _overloaded(QUEUE_FULL)
        check_length(headers, served.limits.max_body_bytes)
        lane.arriving += 1
        return Place(way, lane)

    async def predict(self, asked: Asked) -> Reply:
        """The reply with one prediction an item; raises Refused."""
        served, place = asked.served, asked.head.place
        assert place is not None
        with _used(place.lane), self._buffer() as reserve:
            kind, parameters = media_type(asked.headers)
            again = idempotency_key(asked.headers)
            max_items = min(served.limits.max_items, served.limits.max_queue)
            body = await read_body(asked, served.limits.max_body_bytes, reserve)
            items = items_of(body, kind, parameters, max_items=max_items)
            answer = partial(self._answer, asked, served, place.way, items)
            return await (self._once(asked, served, again, items, answer) if again else answer())

    async def _once(
        self, asked: Asked, served: Served, again: bytes, items: list[bytes], answer: Callable[[], Awaitable[Reply]]
    ) -> Reply:
        """What `answer` makes, or made for the same Idempotency-Key of the same caller before."""
        key = (asked.caller, served.system.name, again)
        pin = header(asked.headers, b"x-platformops-revision") or b""
        reply, is_replay = await self._replays.once(key, digest_of([pin, *items]), answer, now=asked.exchange.started)
        if is_replay:
            asked.exchange.is_replay = True
            asked.exchange.revision = ""  # it had no part in this: a second answer must not count as its success
        return reply

    async def _answer(self, asked: Asked, served: Served, way: Way, items: list[bytes]) -> Reply:
        asked.exchange.items = len(items)
        revision, answers = await self._answered(asked, served, way, items)
        asked.exchange.revision = revision
        asked.exchange.model_version, asked.exchange.node = answers[0].model_version, answers[0].node
        return predictions(asked.exchange.request_id, revision, answers)

    async def _answered(self, asked: Asked, served: Served, way: Way, items: list[bytes]) -> tuple[str, list[Answer]]:
        """The revision that answered, and its answers: during a release stable may step in for the chosen one."""
        deadline, limit_s = asked.exchange.started + served.limits.timeout_s, CANARY_SHARE * served.limits.timeout_s
        submit = partial(self._submit, served, asked.caller, asked.when_gone, asked.exchange.trail)
        try:
            if way.route is None:
                return way.revision, await submit(way.revision, items, deadline)
            copy = partial(self._submit, served, COPIES, _never, None)
            keep = partial(self._keep, asked, items[0]) if len(items) == 1 and self._samples.takes_one() else None
            door = Door(submit, copy, way.route, way.stable, limit_s, asked.exchange.request_id, keep)
            return await self._canary.answered(door, way.revision, items, deadline)
        except QueueFull:
            raise _overloaded(QUEUE_FULL) from None
        except ClientGone:
            raise Refused(CLIENT_CLOSED, "client_gone", "the client hung up") from None

    def _keep(self, asked: Asked, item: bytes, revision: str, answer: Answer) -> None:
        exchange = asked.exchange
        sample = Sample(
            system=exchange.system,
            request_id=exchange.request_id,
            at=exchange.at,
            revision=revision,
            model_version=answer.model_version,
            node=answer.node,
            label=label_of(answer),
        )
        self._samples.keep(sample, item)

    async def _submit(
        self,
        served: Served,
        caller: str,
        when_gone: Callable[[Callable[[], None]], None],
        trail: Trail | None,
        revision: str,
        items: Sequence[bytes],
        deadline: float,
    ) -> list[Answer]:
        lane = self._open(revision, served)
        return await lane.submit(items, caller=caller, deadline=deadline, when_gone=when_gone, trail=trail)

    def _is_busy(self, revision: str) -> bool:
        lane = self.lanes.get(revision)
        return lane is not None and lane.queued > 0

    def _check_rate(self, head: Head, served: Served) -> None:
        rate = served.limits.max_requests_per_s
        if rate is None or head.identity is None:
            return
        who = (head.identity.key_id, served.system.name)
        bucket, wait_s = rates.take(self._buckets.get(who), rate_per_s=rate, now=head.exchange.started)
        self._buckets[who] = bucket
        if wait_s > 0:
            headers = {b"retry-after": str(math.ceil(wait_s)).encode("ascii")}
            raise Refused(429, "rate_limited", "this key asks more often than it may", headers=headers)

    def _open(self, revision: str, served: Served) -> Lane:
        lane = self.lanes.get(revision) or self._new_lane(revision)
        lane.batch, lane.max_queue = served.limits.batch, served.limits.max_queue
        return lane

    def _new_lane(self, revision: str) -> Lane:
        """A lane, and none left of revisions that nobody asks for any more."""
        width = self._width
        self.lanes = {name: lane for name, lane in self.lanes.items() if not lane.is_idle}
        beside = partial(self._of_system, revision)
        self.lanes[revision] = Lane(revision, call=self._call, width=lambda: width(revision), beside=beside)
        return self.lanes[revision]

    def _of_system(self, revision: str) -> list[Lane]:
        """The lanes of the revisions of the same system."""
        system = revision.rpartition("-r")[0]
        return [lane for name, lane in self.lanes.items() if name.rpartition("-r")[0] == system]

    @contextmanager
    def _buffer(self) -> Iterator[Callable[[int], None]]:
        """A function to call for bytes of a body that are to be kept; they are given back on leaving."""
        reserved = 0

        def reserve(num_bytes: int) -> None:
            nonlocal reserved
            if self._buffered_bytes + num_bytes > self._max_buffered_bytes:
                raise _overloaded("too many bytes are being read")
            self._buffered_bytes += num_bytes
            reserved += num_bytes

        try:
            yield reserve
        finally:
            self._buffered_bytes -= reserved


@contextmanager
def _used(lane: Lane) -> Iterator[None]:
    """Who arrived holds the lane from here on, so that it is not thrown away meanwhile."""
    lane.arriving -= 1
    lane.users += 1
    try:
        yield
    finally:
        lane.users -= 1


def _overloaded(message: str) -> Refused:
    return Refused(503, "overloaded", message, headers=RETRY_SOON)


def _never(call: Callable[[], None]) -> None:
    """Nobody waits for a copy, so nobody can hang up on it."""
