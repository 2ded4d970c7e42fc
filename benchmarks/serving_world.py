"""The serving path event by event, with one thing made slow: what an observer would measure, and what really happens.

Beyond the fitted model it has stages with luck of their own, bodies of several sizes, stalls, a gateway whose work
varies, and an answer's way back through it.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from platformops.observation.capacity.records import Call, Cause, Load, Measured


@dataclass(frozen=True)
class World:
    """Mean costs; seconds unless said otherwise."""

    decode_s: float = 250e-6
    transform_s: float = 100e-6
    model_s: float = 350e-6
    model_fixed_s: float = 400e-6
    downstream_s: float = 0.0
    hop_s: float = 900e-6
    router_s: float = 60e-6
    byte_s: float = 2e-9
    body_bytes: float = 10_000.0
    quota: float = 1.0
    """CPU a replica gets of what it wants."""
    stalls: float = 0.0
    """Waiting for memory, relative to work."""
    slowness: tuple[float, ...] = ()
    batch: int = 64
    spread: float = 0.2


@dataclass
class _Server:
    world: World
    load: Load
    luck: np.random.Generator
    heap: list[tuple[float, int, int, int]] = field(default_factory=list)
    queue: deque[int] = field(default_factory=deque)
    calls: list[Call] = field(default_factory=list)
    order: int = 0
    gateway_free: float = 0.0
    router_s: float = 0.0
    body_s: float = 0.0
    sent: dict[int, float] = field(default_factory=dict)
    done: dict[int, float] = field(default_factory=dict)
    finished: list[int] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)
    groups: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    num_sent: int = 0

    def begin(self, requests: int) -> None:
        if self.load.clients is not None:
            arrivals = [0.0] * self.load.clients
        else:
            arrivals = np.cumsum(self.luck.exponential(1 / float(self.load.per_s or 1), requests)).tolist()
        for at in arrivals:
            self.send(at)

    def send(self, at: float) -> None:
        self.push(at, ARRIVED, self.num_sent)
        self.num_sent += 1

    def push(self, at: float, kind: int, about: int) -> None:
        self.order += 1
        heapq.heappush(self.heap, (at, self.order, kind, about))

    def step(self) -> None:
        at, _, kind, about = heapq.heappop(self.heap)
        if kind == ARRIVED:
            self.sent[about] = at
            self.push(_through_gateway(self, at), ENQUEUED, about)
        elif kind == ENQUEUED:
            self.queue.append(about)
        elif kind == CALLED:
            replica, group = self.groups.pop(about)
            self.idle.append(replica)
            for one in group:
                self.push(at, ANSWERED, one)
        else:
            self._answered(at, about)
        while self.idle and self.queue:
            self._call(at)

    def _answered(self, at: float, about: int) -> None:
        self.done[about] = at
        self.finished.append(about)
        if self.load.clients is not None:
            self.send(at)

    def _call(self, at: float) -> None:
        group = [self.queue.popleft() for _ in range(min(self.load.batch, len(self.queue)))]
        replica = self.idle.pop(int(self.luck.integers(len(self.idle))))
        self.groups[group[0]] = (replica, group)
        self.push(at + _call(self, replica, len(group)), CALLED, group[0])


ARRIVED, ENQUEUED, CALLED, ANSWERED = range(4)


def observed(world: World, load: Load, *, requests: int = 6000, seed: int = 0) -> Measured:
    """What a stretch of load looks like from outside; the first tenth of requests is left out."""
    server = _Server(world, load, np.random.default_rng(seed))
    server.idle = list(range(load.replicas))
    server.begin(requests)
    while server.heap and len(server.finished) < requests:
        server.step()
    kept = np.array(server.finished[len(server.finished) // 10 :])
    sent, done = np.array([server.sent[i] for i in kept]), np.array([server.done[i] for i in kept])
    p50, p99 = np.quantile(done - sent, [0.5, 0.99])
    count = len(server.finished)
    return Measured(
        replicas=load.replicas,
        batch=load.batch,
        seconds=float(done[-1] - done[0]),
        requests=len(kept) - 1,
        mean_s=float((done - sent).mean()),
        p50_s=float(p50),
        p99_s=float(p99),
        router_s=server.router_s / count,
        serialisation_s=server.body_s / count,
        calls=tuple(server.calls[len(server.calls) // 10 :]),
        clients=load.clients,
    )


def _through_gateway(server: _Server, at: float) -> float:
    world, luck = server.world, server.luck
    router_s = world.router_s * luck.gamma(4.0) / 4.0
    body_s = world.byte_s * world.body_bytes * luck.gamma(4.0) / 4.0
    server.router_s += router_s
    server.body_s += body_s
    server.gateway_free = max(server.gateway_free, at) + router_s + body_s
    return server.gateway_free


def _call(server: _Server, replica: int, items: int) -> float:
    """Seconds of one call, which is written down as the replica and the gateway would tell it."""
    world, luck = server.world, server.luck
    slow = world.slowness[replica] if replica < len(world.slowness) else 1.0

    def took(mean: float) -> float:
        return mean * float(luck.lognormal(-(world.spread**2) / 2, world.spread))

    cpu = {
        Cause.DECODE: took(world.decode_s * items),
        Cause.TRANSFORM: took(world.transform_s * items),
        Cause.MODEL: took(world.model_s * items + world.model_fixed_s),
    }
    stretch = slow / world.quota
    stalled = sum(cpu.values()) * slow * world.stalls
    stages = {stage: s * stretch * (1 + world.stalls * world.quota) for stage, s in cpu.items()}
    stages[Cause.DOWNSTREAM] = took(world.downstream_s * items) if world.downstream_s else 0.0
    seconds = sum(stages.values()) + took(world.hop_s) + world.byte_s * world.body_bytes * items * 0.25
    server.calls.append(Call(f"r{replica}", items, seconds, stages, sum(cpu.values()) * slow, stalled))
    return seconds


def injected(cause: Cause, size: float, replicas: int) -> World:
    """A healthy world with one thing wrong, `size` (1.0 to 3.0) times a noticeable amount."""
    usual = World()
    return {
        Cause.DECODE: replace(usual, decode_s=usual.decode_s * (2 + 3 * size)),
        Cause.TRANSFORM: replace(usual, transform_s=usual.transform_s * (6 + 6 * size)),
        Cause.MODEL: replace(usual, model_s=usual.model_s * (2 + 3 * size)),
        Cause.BATCHING: replace(usual, batch=1, hop_s=usual.hop_s * (1 + size / 2)),
        Cause.ROUTER: replace(usual, router_s=usual.router_s * (12 + 12 * size)),
        Cause.SERIALISATION: replace(usual, body_bytes=400_000.0 * (1 + size)),
        Cause.CPU_LIMIT: replace(usual, quota=0.6 / (0.5 + size)),
        Cause.MEMORY: replace(usual, stalls=0.8 + size),
        Cause.DOWNSTREAM: replace(usual, downstream_s=800e-6 * (1 + size)),
        Cause.HOT_REPLICA: replace(usual, slowness=(3.0 + 2 * size, *(1.0 for _ in range(replicas - 1)))),
    }[cause]
