"""Our autoscaling policy beside Ray Serve's, on the same requests: what users wait for, and what the replicas cost.

    python benchmarks/autoscaling.py [--short]

Serve's policy wants as many replicas as there are ongoing calls divided by `target_ongoing_requests` (2 unless set).
Calls from our gateway carry many items, one call a replica at a time, so that Serve's policy sees a full system and an
idle one alike; ours counts items. Everything is simulated second by second and call by call: requests that come at
random at a rate that jumps and falls, replicas that need a while to start, the delays of either policy. `by calls` has
Serve's defaults, `by calls, tuned` our delays and a target of 0.7 calls a replica, which a full one exceeds, and
`by items` is what revisions are deployed with.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from platformops.on_ray.autoscaling import wanted_replicas

FIXED_S, ITEM_S, BATCH = 0.002, 0.004, 64
START_S, LOOK_BACK_S = 8.0, 5
MOST_REPLICAS, MOST_QUEUED = 4, 512
SLO_S = 0.25
PROFILE = ((60, 60.0), (150, 700.0), (90, 60.0), (60, 350.0), (60, 60.0))
"""Seconds and requests a second."""
TARGETS = {"late_ratio": "< that of either other policy"}


@dataclass(frozen=True)
class Sample:
    """What a policy is told of one second: calls that were ongoing on average, items and queue at their most."""

    calls: float
    items: int
    queued: int
    replicas: int


@dataclass(frozen=True)
class Policy:
    name: str
    wanted: Callable[[Sequence[Sample]], int]
    up_delay_s: float
    down_delay_s: float


def by_calls(target: float) -> Callable[[Sequence[Sample]], int]:
    """Serve's own rule: mean of ongoing calls over the look-back period, by the target."""
    return lambda seen: max(1, math.ceil(sum(s.calls for s in seen) / len(seen) / target))


def by_items(seen: Sequence[Sample]) -> int:
    """Ours: replicas tell their peaks of one metrics interval, which Serve averages over the look-back period."""
    items, queued = (sum(getattr(s, name) for s in seen) / len(seen) for name in ("items", "queued"))
    return wanted_replicas(items, queued, items_per_replica=BATCH / 2)


POLICIES = (
    Policy("by calls", by_calls(2.0), 30.0, 600.0),
    Policy("by calls, tuned", by_calls(0.7), 3.0, 60.0),
    Policy("by items", by_items, 3.0, 60.0),
)


@dataclass
class World:
    """Replicas, each with the instant at which it is free; items that wait, by their arrival."""

    free_at: list[float] = field(default_factory=lambda: [0.0])
    waiting: deque[float] = field(default_factory=deque)
    took_s: list[float] = field(default_factory=list)
    refused: int = 0

    def second(self, start: float, arrivals: Sequence[float]) -> Sample:
        """One second of requests; full calls leave as soon as a replica is free."""
        peak_items = peak_queued = 0
        busy_s, ahead, now = 0.0, deque(arrivals), start
        while now < start + 1.0:
            while ahead and ahead[0] <= now:
                self._arrive(ahead.popleft())
            for i, free in enumerate(self.free_at):
                if free <= now and self.waiting:
                    self._call(i, now)
            ends = [f for f in self.free_at if f > now]
            peak_items = max(peak_items, sum(round((f - now - FIXED_S) / ITEM_S) for f in ends))
            peak_queued = max(peak_queued, len(self.waiting))
            then = min([start + 1.0, *ends, *([ahead[0]] if ahead else [])])
            busy_s, now = busy_s + len(ends) * (then - now), then
        return Sample(busy_s, peak_items, peak_queued, len(self.free_at))

    def _arrive(self, at: float) -> None:
        if len(self.waiting) >= MOST_QUEUED:
            self.refused += 1
        else:
            self.waiting.append(at)

    def _call(self, replica: int, now: float) -> None:
        items = [self.waiting.popleft() for _ in range(min(BATCH, len(self.waiting)))]
        done = now + FIXED_S + ITEM_S * len(items)
        self.free_at[replica] = done
        self.took_s += [done - at for at in items]


def run(policy: Policy, seed: int) -> dict[str, float]:
    """Figures of the whole profile under one policy."""
    luck, world, seen = np.random.default_rng(seed), World(), deque[Sample](maxlen=LOOK_BACK_S)
    starting: list[float] = []
    above = below = 0.0
    replica_s = 0.0
    rates = [rate for seconds, rate in PROFILE for _ in range(seconds)]
    for now, rate in enumerate(rates):
        arrivals = np.sort(now + luck.uniform(0, 1, luck.poisson(rate))).tolist()
        seen.append(world.second(float(now), arrivals))
        replica_s += len(world.free_at) + len(starting)
        for ready in [at for at in starting if at <= now]:
            starting.remove(ready)
            world.free_at.append(float(now))
        have = len(world.free_at) + len(starting)
        wanted = min(MOST_REPLICAS, policy.wanted(tuple(seen)))
        above, below = (above + 1 if wanted > have else 0.0), (below + 1 if wanted < have else 0.0)
        if above >= policy.up_delay_s:
            starting += [now + START_S] * (wanted - have)
            above = 0.0
        elif below >= policy.down_delay_s and not starting:
            world.free_at = sorted(world.free_at)[:wanted]
            below = 0.0
    took = np.array(world.took_s)
    late = int((took > SLO_S).sum()) + world.refused
    return {
        "late_ratio": late / (len(took) + world.refused), "refused": float(world.refused),
        "p99_ms": 1e3 * float(np.quantile(took, 0.99)), "replica_s": replica_s,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    seeds = range(3 if parser.parse_args().short else 20)
    found: dict[str, dict[str, float]] = {}
    print(f"{'policy':22}{'late or refused':>16}{'refused':>9}{'p99 ms':>9}{'replica seconds':>17}")
    for policy in POLICIES:
        runs = [run(policy, seed) for seed in seeds]
        found[policy.name] = f = {name: float(np.mean([r[name] for r in runs])) for name in runs[0]}
        told = f"{f['late_ratio']:>16.1%}{f['refused']:>9,.0f}{f['p99_ms']:>9,.0f}{f['replica_s']:>17,.0f}"
        print(f"{policy.name:22}{told}")
    ours = found["by items"]
    figures = {
        "late_ratio": round(ours["late_ratio"], 4), "replica_s": round(ours["replica_s"]),
        "late_ratio_by_calls": round(found["by calls"]["late_ratio"], 4),
        "late_ratio_by_calls_tuned": round(found["by calls, tuned"]["late_ratio"], 4),
        "replica_s_by_calls_tuned": round(found["by calls, tuned"]["replica_s"]),
        "measured_on": "event simulation",
    }  # fmt: skip
    passed = all(ours["late_ratio"] < f["late_ratio"] for name, f in found.items() if name != "by items")
    print(json.dumps({"name": "autoscaling", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
