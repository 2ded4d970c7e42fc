"""Response times of the fitted model: one gateway, a queue, and replicas that take all that waits, up to a batch.

A queue with bulk service (Bailey 1954; Neuts 1967) of several servers has no closed form for its quantiles, so that
the model is evaluated by its events, some ten thousand requests in a tenth of a second, the same for the same seed.
"""

from __future__ import annotations

import heapq
from collections import deque

import numpy as np

from platformops.observation.capacity.records import Load, Prediction, Service
from platformops.observation.capacity.service import slowness_of

REQUESTS = 20_000
WARM_UP = 0.1
"""Share of requests that come before the system is in its steady state."""
ARRIVED, DONE = 0, 1


def predict(service: Service, load: Load, *, requests: int = REQUESTS, seed: int = 0) -> Prediction:
    """What a client would see. Raises ValueError unless exactly one of `per_s` and `clients` is given."""
    if (load.per_s is None) == (load.clients is None):
        raise ValueError("a load has either a rate or a number of clients")
    run = _Run(service, load, requests, np.random.default_rng(seed))
    return run.result()


class _Run:
    """One evaluation; `heap` holds instants of arrivals at the gateway and of calls that end."""

    def __init__(self, service: Service, load: Load, requests: int, luck: np.random.Generator) -> None:
        self.service, self.load, self.requests, self.luck = service, load, requests, luck
        self.slowness = slowness_of(service, load.replicas)
        # Of several idle replicas the fastest is free soonest and most often; any order would do for equal ones.
        self.idle = list(np.argsort(self.slowness)[::-1])
        self.waiting: deque[tuple[float, float]] = deque()
        self.heap: list[tuple[float, int, int, tuple[tuple[float, float], ...]]] = []
        self.gateway_free, self.busy_s, self.num_calls, self.order = 0.0, 0.0, 0, 0
        self.answered: list[tuple[float, float]] = []
        self.draws = np.exp(luck.normal(-(service.spread**2) / 2, service.spread, size=4096))

    def result(self) -> Prediction:
        arrivals = self._first_arrivals()
        for at in arrivals:
            self._push(at, ARRIVED, 0, ((at, at),))
        while self.heap and len(self.answered) < self.requests:
            at, kind, replica, group = self._pop()
            if kind == ARRIVED:
                self._arrived(at, group[0][0])
            else:
                self._done(at, replica, group)
        return self._summary()

    def _first_arrivals(self) -> np.ndarray:
        if self.load.clients is not None:
            return np.zeros(self.load.clients)
        assert self.load.per_s is not None
        return np.cumsum(self.luck.exponential(1.0 / self.load.per_s, self.requests))

    def _push(self, at: float, kind: int, replica: int, group: tuple[tuple[float, float], ...]) -> None:
        self.order += 1
        # The order of coming breaks ties, so that equal instants are taken as they were made.
        heapq.heappush(self.heap, (at, self.order * 2 + kind, replica, group))

    def _pop(self) -> tuple[float, int, int, tuple[tuple[float, float], ...]]:
        at, coded, replica, group = heapq.heappop(self.heap)
        return at, coded % 2, replica, group

    def _arrived(self, at: float, sent_at: float) -> None:
        """The gateway works on one request at a time; then the request waits for a call."""
        self.gateway_free = max(self.gateway_free, at) + self.service.gateway_s
        self.waiting.append((sent_at, self.gateway_free))
        self._start(at)

    def _done(self, at: float, replica: int, group: tuple[tuple[float, float], ...]) -> None:
        self.idle.append(replica)
        for sent_at, _ in group:
            self.answered.append((sent_at, at))
            if self.load.clients is not None:
                self._push(at, ARRIVED, 0, ((at, at),))
        self._start(at)

    def _start(self, now: float) -> None:
        while self.idle and self.waiting:
            begins = max(now, self.waiting[0][1])
            ready = [self.waiting.popleft()]
            while self.waiting and len(ready) < self.load.batch and self.waiting[0][1] <= begins:
                ready.append(self.waiting.popleft())
            replica = self.idle.pop()
            usual = self.service.call_s(len(ready), replicas=self.load.replicas) * self.slowness[replica]
            took = usual * float(self.draws[self.num_calls % len(self.draws)])
            self.busy_s += took
            self.num_calls += 1
            self._push(begins + took, DONE, replica, tuple(ready))

    def _summary(self) -> Prediction:
        kept = np.array(self.answered[int(WARM_UP * len(self.answered)) :])
        waited = kept[:, 1] - kept[:, 0]
        span = float(kept[-1, 1] - kept[0, 1])
        p50, p99 = np.quantile(waited, [0.5, 0.99])
        lag_s, tail_s = self.service.lag_s, self.service.tail_ratio * (p99 - p50)
        whole = float(self.answered[-1][1])
        return Prediction(
            self.load,
            throughput_per_s=(len(kept) - 1) / span if span > 0 else 0.0,
            p50_s=float(p50) + lag_s,
            p99_s=float(p50 + tail_s) + lag_s,
            mean_s=float(waited.mean()) + lag_s,
            mean_items=len(self.answered) / max(1, self.num_calls),
            utilisation=min(1.0, self.busy_s / (whole * self.load.replicas)),
        )
