"""How a predict request is carried out: rate, revision, queue, body, items, replica; refused as early as it can be."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from platformops.delivery.records import Route
from platformops.gateway import rates, router
from platformops.gateway.batching import ClientGone, Lane, QueueFull
from platformops.gateway.bodies import items_of, media_type
from platformops.gateway.call import Answer, Call, Width
from platformops.gateway.canary import CANARY_SHARE, Canary, Door, label_of
from platformops.gateway.evidence import Book, Copying, TimedCall
from platformops.gateway.replays import Replays, digest_of, idempotency_key
from platformops.gateway.replies import Refused, Reply, predictions
from platformops.gateway.request import CLIENT_CLOSED, Asked, header, read_body
from platformops.gateway.samples import Sample, Samples
from platformops.gateway.served import Served, World
from platformops.gateway.trace_context import Carried

MAX_REQUEST_KEY_BYTES = 256
COPIES = "copies"
"""The caller in whose name copies wait: they take turns with users as one of them."""
RETRY_SOON = {b"retry-after": b"1"}


@dataclass(frozen=True, slots=True)
class Way:
    """Which revision is to answer a request, and by which route it is compared with stable."""

    revision: str
    route: Route | None = None
    """None for requests that are not compared."""
    stable: str = ""

    @property
    def entrance(self) -> str:
        """The revision whose queue decides whether a request is let in: stable's, where it can step in."""
        return self.stable or self.revision


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

    async def predict(self, asked: Asked, served: Served, world: World) -> Reply:
        """The reply with one prediction an item; raises Refused."""
        self._check_rate(asked, served)
        way = _way(asked, served, world)
        asked.exchange.revision = way.revision
        kind, parameters = media_type(asked.headers)
        again = idempotency_key(asked.headers)
        max_items = min(served.limits.max_items, served.limits.max_queue)
        with self._lane(way.entrance, served), self._buffer() as reserve:
            body = await read_body(asked, served.limits.max_body_bytes, reserve)
            items = items_of(body, kind, parameters, max_items=max_items)
            answer = partial(self._answer, asked, served, way, items)
            return await (self._once(asked, served, again, items, answer) if again else answer())

    async def _once(
        self, asked: Asked, served: Served, again: bytes, items: list[bytes], answer: Callable[[], Awaitable[Reply]]
    ) -> Reply:
        """What `answer` makes, or made for the same Idempotency-Key of the same caller before."""
        key = (asked.identity.key_id if asked.identity else "", served.system.name, again)
        pin = header(asked.headers, b"x-platformops-revision") or b""
        reply, is_replay = await self._replays.once(key, digest_of([pin, *items]), answer, now=asked.started)
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
        deadline, limit_s = asked.started + served.limits.timeout_s, CANARY_SHARE * served.limits.timeout_s
        note = asked.exchange.carried.append if asked.exchange.carried is not None else None
        submit = partial(self._submit, served, asked.identity.key_id if asked.identity else "", asked.when_gone, note)
        try:
            if way.route is None:
                return way.revision, await submit(way.revision, items, deadline)
            copy = partial(self._submit, served, COPIES, _never, None)
            keep = partial(self._keep, asked, items[0]) if len(items) == 1 and self._samples.takes_one() else None
            door = Door(submit, copy, way.route, way.stable, limit_s, asked.exchange.request_id, keep)
            return await self._canary.answered(door, way.revision, items, deadline)
        except QueueFull:
            raise _overloaded("as many requests wait as this system allows") from None
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
        on_call: Callable[[Carried], None] | None,
        revision: str,
        items: Sequence[bytes],
        deadline: float,
    ) -> list[Answer]:
        lane = self._open(revision, served)
        return await lane.submit(items, caller=caller, deadline=deadline, when_gone=when_gone, on_call=on_call)

    def _is_busy(self, revision: str) -> bool:
        lane = self.lanes.get(revision)
        return lane is not None and lane.queued > 0

    def _check_rate(self, asked: Asked, served: Served) -> None:
        rate = served.limits.max_requests_per_s
        if rate is None or asked.identity is None:
            return
        who = (asked.identity.key_id, served.system.name)
        bucket, wait_s = rates.take(self._buckets.get(who), rate_per_s=rate, now=asked.started)
        self._buckets[who] = bucket
        if wait_s > 0:
            headers = {b"retry-after": str(math.ceil(wait_s)).encode("ascii")}
            raise Refused(429, "rate_limited", "this key asks more often than it may", headers=headers)

    @contextmanager
    def _lane(self, revision: str, served: Served) -> Iterator[Lane]:
        """The queue of a revision; a full one is refused before the body is read."""
        lane = self._open(revision, served)
        if lane.is_full:
            raise _overloaded("as many requests wait as this system allows")
        lane.users += 1
        try:
            yield lane
        finally:
            lane.users -= 1

    def _open(self, revision: str, served: Served) -> Lane:
        lane = self.lanes.get(revision) or self._new_lane(revision)
        lane.batch, lane.max_queue = served.limits.batch, served.limits.max_queue
        return lane

    def _new_lane(self, revision: str) -> Lane:
        """A lane, and none left of revisions that nobody asks for any more."""
        width = self._width
        self.lanes = {name: lane for name, lane in self.lanes.items() if lane.users or not lane.is_idle}
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


def _way(asked: Asked, served: Served, world: World) -> Way:
    """The pinned revision for operators, the router's choice for everybody else."""
    pinned = header(asked.headers, b"x-platformops-revision")
    if pinned is not None:
        return Way(_pinned(pinned, asked, served.system.name))
    route, stable = world.routes.get(served.system.name), served.system.stable
    if route is None:
        raise Refused(503, "not_ready", "this system has no revision that takes traffic yet", headers=RETRY_SOON)
    key = header(asked.headers, b"x-request-key")
    if key is not None and len(key) > MAX_REQUEST_KEY_BYTES:
        raise Refused(400, "bad_request_key", f"X-Request-Key may have {MAX_REQUEST_KEY_BYTES} bytes")
    chosen = router.choose(route, key.decode("latin-1") if key else asked.exchange.request_id)
    is_compared = stable is not None and stable.name in route.weights
    return Way(chosen, route, stable.name) if stable and is_compared else Way(chosen)


def _pinned(revision: bytes, asked: Asked, system: str) -> str:
    if not asked.may("operate"):
        raise Refused(403, "forbidden", "only keys with the scope operate may choose a revision")
    prefix, _, number = revision.decode("latin-1").rpartition("-r")
    if prefix != system or not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise Refused(404, "unknown_revision", "this system has no revision of that name")
    return f"{prefix}-r{number}"


def _overloaded(message: str) -> Refused:
    return Refused(503, "overloaded", message, headers=RETRY_SOON)


def _never(call: Callable[[], None]) -> None:
    """Nobody waits for a copy, so nobody can hang up on it."""
