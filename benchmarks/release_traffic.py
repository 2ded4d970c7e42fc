"""Generated traffic of one system: requests arrive at random, are split as the route says, and end as profiles say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from platformops.delivery.evidence import (
    LONGEST_BUCKET,
    NOTHING,
    Memory,
    Tallies,
    Tally,
    bucket_of,
    plus,
    remembered,
)
from platformops.delivery.records import Route

MEMORY_EVERY_S = 1.0
MOST_SAMPLES = 30
"""Of memory in one step of the simulation, however long it is."""
SETTLED_BYTES = 300 * 2**20


@dataclass(frozen=True)
class Profile:
    """How a revision behaves."""

    errors: float = 0.001
    deadlines: float = 0.0
    median_ms: float = 10.0
    spread: float = 0.6
    """Standard deviation of the logarithm of latencies."""
    tail: float = 0.03
    """Share of answers that take eight times as long."""
    disagreement: float = 0.01
    """Share of copies that it answers otherwise than stable."""
    wrong: tuple[float, float] = (0.01, 0.01)
    """Of labelled copies: only it wrong, only stable wrong."""
    leak_bytes_per_request: float = 0.0
    crashes_after: int = 0
    """Requests until it is in a crash loop; 0 for never."""

    def slower(self, ratio: float) -> Profile:
        return replace(self, median_ms=self.median_ms * ratio)


@dataclass
class Life:
    """What has become of one revision."""

    asked: int = 0
    memory: Memory = field(default_factory=Memory)


class Traffic:
    """Counts as a gateway does. One instance a gateway process."""

    def __init__(
        self, rate_per_s: float, profiles: Mapping[str, Profile], luck: np.random.Generator, *, labelled: float = 0.0
    ) -> None:
        self.rate_per_s, self.profiles, self.luck, self.labelled = rate_per_s, profiles, luck, labelled
        self.requests = 0
        """Of users, so far."""
        self.exposed: dict[str, int] = {}
        """Of them, by the revision that was asked."""
        self._counted: dict[str, dict[str, Tally]] = {}
        self._lives: dict[str, Life] = {}
        self._shares: dict[tuple[float, float, float], tuple[NDArray[np.float64], NDArray[np.int64]]] = {}

    def advance(self, seconds: float, route: Route | None) -> None:
        """What comes in `seconds` along `route`."""
        arrived = int(self.luck.poisson(self.rate_per_s * seconds))
        if route is None or not arrived:
            return
        names = list(route.weights)
        shares = np.array([route.weights[name] for name in names]) / 100
        self.requests += arrived
        for name, count in zip(names, self.luck.multinomial(arrived, shares).tolist(), strict=True):
            if count:
                self.exposed[name] = self.exposed.get(name, 0) + count
                is_timed = not route.shadow  # beside copies nothing is timed
                self._count(name, count, seconds, is_copy=False, is_timed=is_timed)
                if route.shadow and name != route.shadow:
                    self._count(route.shadow, count, seconds, is_copy=True, is_timed=is_timed)

    def asked(self, name: str) -> int:
        """Requests and copies that a revision got."""
        return self._life(name).asked

    def tallies(self) -> tuple[Tallies, ...]:
        return (Tallies("simulated", {name: dict(nodes) for name, nodes in self._counted.items()}),)

    def in_crash_loop(self, name: str) -> bool:
        limit = self._profile(name).crashes_after
        return bool(limit) and self._life(name).asked >= limit

    def _profile(self, name: str) -> Profile:
        return self.profiles.get(name, Profile())

    def _life(self, name: str) -> Life:
        return self._lives.setdefault(name, Life())

    def _count(self, name: str, count: int, seconds: float, *, is_copy: bool, is_timed: bool) -> None:
        profile, life, luck = self._profile(name), self._life(name), self.luck
        life.asked += count
        failures = int(luck.binomial(count, min(1.0, profile.errors + profile.deadlines)))
        late = int(luck.binomial(failures, profile.deadlines / (profile.errors + profile.deadlines))) if failures else 0
        pairs = int(luck.binomial(count, self.labelled)) if is_copy and self.labelled else 0
        own, other, _ = luck.multinomial(pairs, [*profile.wrong, 1 - sum(profile.wrong)]).tolist()
        compared = count - failures if is_copy else 0
        tally = Tally(
            requests=0 if is_copy else count,
            copies=count if is_copy else 0,
            failures=failures,
            deadlines=late,
            latencies=self._latencies(profile, count - failures) if is_timed else {},
            compared=compared,
            disagreements=int(luck.binomial(compared, profile.disagreement)),
            pairs=pairs,
            only_own_wrong=own,
            only_other_wrong=other,
            memory={f"{name}#1": self._remembered(profile, life, seconds)},
        )
        nodes = self._counted.setdefault(name, {})
        nodes["n1"] = plus(nodes.get("n1", NOTHING), tally)

    def _latencies(self, profile: Profile, count: int) -> dict[int, int]:
        key = (profile.median_ms, profile.spread, profile.tail)
        if key not in self._shares:
            self._shares[key] = bucket_shares(profile)
        shares, buckets = self._shares[key]
        drawn = self.luck.multinomial(count, shares)
        came = drawn.nonzero()[0]
        return dict(zip(buckets[came].tolist(), drawn[came].tolist(), strict=True))

    def _remembered(self, profile: Profile, life: Life, seconds: float) -> Memory:
        for _ in range(min(MOST_SAMPLES, max(1, int(seconds / MEMORY_EVERY_S)))):
            noise = 1 + 0.0005 * self.luck.standard_normal()
            resident = SETTLED_BYTES * noise + profile.leak_bytes_per_request * life.asked
            life.memory = remembered(life.memory, int(resident))
        return life.memory


def bucket_shares(profile: Profile) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities of the buckets that a profile's latencies fall into, and those buckets; from 4,001 quantiles."""
    from scipy.stats import norm

    grid = norm.ppf((np.arange(4001) + 0.5) / 4001)
    body = profile.median_ms * np.exp(profile.spread * grid)
    shares = np.zeros(LONGEST_BUCKET + 1)
    for times, share in ((body, 1 - profile.tail), (8 * body, profile.tail)):
        for bucket in (bucket_of(float(t)) for t in times):
            shares[bucket] += share / len(times)
    buckets = shares.nonzero()[0]
    return shares[buckets] / shares[buckets].sum(), buckets.astype(np.int64)
