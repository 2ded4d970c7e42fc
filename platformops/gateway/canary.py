"""Requests during a release: the candidate is tried, stable answers when it fails, and copies cost users nothing."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from platformops.delivery.records import Route
from platformops.gateway.batching import FIRST_ATTEMPT_SHARE, QueueFull
from platformops.gateway.call import Answer
from platformops.gateway.evidence import Book, Copying

CANARY_SHARE = 0.5
"""Of a request's time limit: then there is as much left for stable. Whoever takes longer, stable too, has failed as far
as evidence goes: the same limit for both, or a slow model would be taken for a bad one."""
MOST_COPIES = 16
"""Under way at a time; more are not made, as users' requests come first."""
TRICKLE_S = 0.1
"""Between two copies while requests wait: so few cost users next to nothing, and a system that is always busy would
never be released to without them."""
OPEN_AFTER = 5
"""Failures in a row after which a candidate is asked only now and then."""
OPEN_S = 5.0
SETTLED = frozenset({413, 422})
"""Statuses that may be the input's fault: stable knows."""

Submit = Callable[[str, Sequence[bytes], float], Awaitable[list[Answer]]]
"""Revision, items and deadline (loop time) to one answer an item; raises QueueFull."""


AnsweredToo = Callable[[str, str, str, str, str], None]
"""Request id, revision, model version, node and label of a copy's answer."""


@dataclass(frozen=True, slots=True)
class Door:
    """How one request reaches the two revisions that are compared."""

    submit: Submit
    """For users: given up when the client hangs up."""
    copy: Submit
    """For copies, that nobody waits for."""
    route: Route
    stable: str
    limit_s: float
    """What the candidate may take, in two attempts; stable is held to what that leaves for one."""
    request_id: str
    keep: Callable[[str, Answer], None] | None
    """Told which revision answered, and how, where the truth may come back; None for requests that are not kept."""


@dataclass(slots=True)
class Circuit:
    """Whether users' requests may still be tried on a revision that keeps failing."""

    failures: int = 0
    opened_at: float = 0.0

    def lets_through(self, now: float) -> bool:
        """At most one request in OPEN_S seconds while it is open."""
        if self.failures < OPEN_AFTER:
            return True
        if now - self.opened_at < OPEN_S:
            return False
        self.opened_at = now
        return True

    def record(self, now: float, *, failed: bool) -> None:
        self.failures = self.failures + 1 if failed else 0
        if self.failures == OPEN_AFTER:
            self.opened_at = now


class Canary:
    """Answers the requests of systems that have, or may have, two revisions. Use from one event loop."""

    def __init__(self, book: Book, is_busy: Callable[[str], bool], answered_too: AnsweredToo, copying: Copying) -> None:
        """`is_busy` tells whether requests already wait for a revision; `answered_too` is told what copies became, and
        `copying` when they begin and end."""
        self._book, self._is_busy, self._answered_too, self._copying = book, is_busy, answered_too, copying
        self._circuits: dict[str, Circuit] = {}
        self._copies: set[asyncio.Task[None]] = set()
        self._copied_at = -math.inf

    async def answered(
        self, door: Door, chosen: str, items: Sequence[bytes], deadline: float
    ) -> tuple[str, list[Answer]]:
        """The revision that answered, and one answer an item. Raises QueueFull when stable's queue is."""
        revision, answers = await self._answered(door, chosen, items, deadline)
        if door.keep is not None and answers[0].is_ok:
            door.keep(revision, answers[0])
        if chosen == door.stable and door.route.shadow and not _failed(answers):
            self._copy(door, items[0], answers[0])
        return revision, answers

    async def _answered(
        self, door: Door, chosen: str, items: Sequence[bytes], deadline: float
    ) -> tuple[str, list[Answer]]:
        stable = door.stable
        if chosen == stable:
            began = asyncio.get_running_loop().time()
            answers = await door.submit(stable, items, deadline)
            is_late = asyncio.get_running_loop().time() - began > FIRST_ATTEMPT_SHARE * door.limit_s
            self._count(stable, answers, "requests", is_late=is_late)
            return stable, answers
        tried = await self._tried(door, chosen, items, deadline)
        if tried is not None and not _may_be_input(tried):
            return chosen, tried
        by_stable = await door.submit(stable, items, deadline)
        if tried is not None:
            self._settle(chosen, tried, by_stable)
        return stable, by_stable

    async def _tried(self, door: Door, revision: str, items: Sequence[bytes], deadline: float) -> list[Answer] | None:
        """The candidate's answers; None when it failed or is not to be asked now."""
        now = asyncio.get_running_loop().time()
        circuit = self._circuits.setdefault(revision, Circuit())
        if deadline - now < (1 + CANARY_SHARE) * door.limit_s or not circuit.lets_through(now):
            return None  # a body that came slowly leaves no time to try
        try:
            answers = await door.submit(revision, items, now + door.limit_s)
        except QueueFull:
            return None  # a full queue is met by users' load, and stable has one of its own
        failed = _failed(answers)
        circuit.record(asyncio.get_running_loop().time(), failed=failed)
        if failed or not _may_be_input(answers):
            self._count(revision, answers, "requests")
        return None if failed else answers

    def _settle(self, revision: str, answers: list[Answer], by_stable: list[Answer]) -> None:
        """An input that the candidate refuses is bad when stable refuses it too; else the candidate has failed."""
        is_candidates_fault = not _may_be_input(by_stable) and not _failed(by_stable)
        self._book.add(revision, answers[0].node, "requests", *(["failures"] if is_candidates_fault else []))

    def _count(self, revision: str, answers: Sequence[Answer], what: str, *, is_late: bool = False) -> None:
        names, is_late = [what], is_late or any(a.status == 504 for a in answers)
        if is_late or _failed(answers):
            names.append("failures")
        if is_late:
            names.append("deadlines")
        self._book.add(revision, next((a.node for a in answers if a.node), ""), *names)

    def _copy(self, door: Door, item: bytes, answer: Answer) -> None:
        """Sends the first item to the candidate, too; now and then only, when anybody waits for either of the two."""
        revision, now = door.route.shadow, asyncio.get_running_loop().time()
        is_busy = self._is_busy(door.stable) or self._is_busy(revision)
        is_spared = is_busy and door.keep is None and now - self._copied_at < TRICKLE_S
        if is_spared or len(self._copies) >= MOST_COPIES:
            return  # what is kept for labels is copied whatever happens: a label then judges both revisions
        self._copied_at = now
        self._copying.begin()
        task = asyncio.get_running_loop().create_task(self._compare(door, revision, item, answer))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)
        task.add_done_callback(self._copying.end)

    async def _compare(self, door: Door, revision: str, item: bytes, by_stable: Answer) -> None:
        deadline = asyncio.get_running_loop().time() + door.limit_s
        try:
            (own,) = await door.copy(revision, [item], deadline)
        except QueueFull:
            return
        is_input_fault = own.status in SETTLED and by_stable.status in SETTLED
        if own.is_ok and by_stable.is_ok:
            label = label_of(own)
            differs = label != label_of(by_stable)
            self._book.add(revision, own.node, "copies", "compared", *(["disagreements"] if differs else []))
            self._answered_too(door.request_id, revision, own.model_version, own.node, label)
        elif is_input_fault:
            self._book.add(revision, own.node, "copies")
        else:
            self._count(revision, [own if own.status not in SETTLED else REFUSED], "copies")


REFUSED = Answer(500, code="refused_input", message="the candidate refuses what stable answers")


def label_of(answer: Answer) -> str:
    """What two answers are compared by: the label, or the whole answer of an app that gives none."""
    document = json.loads(answer.json)
    return str(document["label"]) if isinstance(document, dict) and "label" in document else answer.json.decode()


def _failed(answers: Sequence[Answer]) -> bool:
    return any(a.status >= 500 or a.status == 404 for a in answers)


def _may_be_input(answers: Sequence[Answer]) -> bool:
    return any(a.status in SETTLED for a in answers)
