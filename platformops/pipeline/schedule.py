"""Decides which step of a plan may start next, and how long a failed one rests before it is tried again."""

from __future__ import annotations

import hashlib
import heapq

from platformops.pipeline.records import Plan, Step

FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0


class Schedule:
    """Steps are popped once their parents are done, in the plan's order; what was popped is finished or put back."""

    def __init__(self, plan: Plan) -> None:
        self._steps = {step.stage.name: step for step in plan.steps}
        self._place = {name: index for index, name in enumerate(self._steps)}
        self._children: dict[str, list[str]] = {name: [] for name in self._steps}
        for step in plan.steps:
            for parent in step.stage.needs:
                self._children[parent].append(step.stage.name)
        self._names = list(self._steps)
        self._done: set[str] = set()
        self._out: set[str] = set()
        self._queued: set[str] = set()
        self._heap: list[int] = []
        for step in plan.steps:
            if not step.stage.needs:
                self._push(step.stage.name)

    def pop(self) -> Step | None:
        """The first step that may start now; None when every remaining one waits for another."""
        while self._heap:
            name = self._names[heapq.heappop(self._heap)]
            self._queued.discard(name)
            if name not in self._done and self._is_free(name):
                self._out.add(name)
                return self._steps[name]
        return None

    def finish(self, name: str) -> None:
        """The step is done: its children may start once their other parents are."""
        self._out.discard(name)
        self._done.add(name)
        for child in self._children[name]:
            if child not in self._out | self._done and self._is_free(child):
                self._push(child)

    def put_back(self, name: str) -> None:
        """The step was popped and may start again, now or, when a parent was reopened meanwhile, after it."""
        self._out.discard(name)
        if self._is_free(name):
            self._push(name)

    def reopen(self, name: str) -> None:
        """The step was done and has to be done again; its children wait for it."""
        self._done.discard(name)
        self._push(name)

    def _is_free(self, name: str) -> bool:
        return all(parent in self._done for parent in self._steps[name].stage.needs)

    def _push(self, name: str) -> None:
        if name not in self._queued:
            self._queued.add(name)
            heapq.heappush(self._heap, self._place[name])


def rest_s(fingerprint: str, attempt: int) -> float:
    """Seconds before the attempt after `attempt` (from 1): doubling, with a jitter that is the same on every machine.

    Steps that failed together for one reason (a full disk, a lost server) must not come back together.
    """
    longest = min(FIRST_REST_S * 2.0 ** (attempt - 1), LONGEST_REST_S)
    digest = hashlib.sha256(f"{fingerprint} {attempt}".encode()).digest()
    return longest * (0.5 + int.from_bytes(digest[:4]) / 2**33)
