"""Whether the performance model names the bottleneck and predicts what was not measured: on the path in events.

    python benchmarks/performance_model.py [--short] [--live [--home DIR]]

One thing is made slow in each of 60 worlds, at random sizes and replica counts, and a saturated stretch is looked at.
Then worlds with costs at random are measured with one and two replicas at a few concurrencies, and predicted for three
and four at other rates. Settings are tuned in each of them, and both settings are then run. `serving_world.py` has more
in it than the model that is fitted, yet the same queue and batches: on a real machine expect larger errors.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.performance_model_live import live_figures
from benchmarks.serving_world import World, injected, observed
from platformops.observation.capacity.bottleneck import bottleneck
from platformops.observation.capacity.queueing import predict
from platformops.observation.capacity.records import Cause, Load, Measured, Service
from platformops.observation.capacity.service import capacity_per_s, fit_service
from platformops.observation.capacity.tuning import propose

CASES = 60
DEFAULT = Load(1, 64)
SLO_S = 0.08
TARGETS = {
    "bottleneck_right_ratio": ">= 0.9",
    "throughput_error_ratio": "<= 0.15",
    "p99_error_ratio": "<= 0.25",
    "tuned_speedup": ">= 1.5",
}


@dataclass(frozen=True)
class Unmeasured:
    load: Load
    throughput_error: float
    p50_error: float
    p99_error: float


def named(case: int) -> tuple[Cause, Cause]:
    """The cause that was injected, and the one that was named."""
    luck = np.random.default_rng(1000 + case)
    cause = list(Cause)[case % len(Cause)]
    replicas = int(luck.integers(2, 5)) if cause is Cause.HOT_REPLICA else int(luck.integers(1, 5))
    world = injected(cause, float(luck.uniform(1, 3)), replicas)
    world = replace(
        world, spread=float(luck.uniform(0.1, 0.4)), router_s=world.router_s * float(luck.uniform(0.8, 1.3))
    )
    point = observed(world, Load(replicas, world.batch, clients=128 * replicas), requests=3000, seed=case)
    return cause, bottleneck(point).cause


def ordinary(case: int) -> World:
    luck = np.random.default_rng(5000 + case)

    def around(mean: float) -> float:
        return mean * float(np.exp(luck.normal(0, 0.5)))

    usual = World()
    return replace(
        usual,
        decode_s=around(usual.decode_s),
        transform_s=around(usual.transform_s),
        model_s=around(usual.model_s),
        model_fixed_s=around(usual.model_fixed_s),
        hop_s=around(usual.hop_s),
        router_s=around(usual.router_s),
        spread=float(luck.uniform(0.1, 0.4)),
    )


def fitted(world: World, seed: int) -> Service:
    """From short stretches with one and two replicas."""
    points: list[Measured] = [
        observed(world, Load(n, 64, clients=clients), requests=2500, seed=seed + clients)
        for n in (1, 2)
        for clients in (1, 8, 64)
    ]
    return fit_service(points)


def predicted(world: World, service: Service, seed: int) -> list[Unmeasured]:
    found = []
    for replicas, share in ((1, 0.6), (2, 0.4), (3, 0.5), (4, 0.3), (4, 0.7)):
        load = Load(replicas, 64, per_s=share * capacity_per_s(service, replicas=replicas, batch=64))
        told, seen = predict(service, load), observed(world, load, requests=12_000, seed=seed)
        found.append(
            Unmeasured(
                load,
                abs(told.throughput_per_s / seen.throughput_per_s - 1),
                abs(told.p50_s / seen.p50_s - 1),
                abs(told.p99_s / seen.p99_s - 1),
            )
        )
    return found


def speedup(world: World, service: Service, seed: int) -> tuple[float, bool]:
    """Throughput at the tuned settings over that at the defaults, each at its best within the limit; and whether the
    tuned settings kept the limit when they were run."""
    tuned = propose(service, p99_s=SLO_S, replicas=(1, 2))
    usual = propose(service, p99_s=SLO_S, replicas=(DEFAULT.replicas,), batches=(DEFAULT.batch,))
    seen = [observed(world, p.prediction.load, requests=12_000, seed=seed) for p in (tuned, usual)]
    return seen[0].throughput_per_s / seen[1].throughput_per_s, seen[0].p99_s <= SLO_S


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--live", action="store_true", help="on a live system of its own")
    parser.add_argument("--home", type=Path, help="one in which that system was live before, to start from a copy")
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return judged(live_figures(asked.home)) if asked.live else judged(simulated(short=asked.short))


def simulated(*, short: bool) -> Mapping[str, object]:
    """Figures of the path in events."""
    cases = [named(case) for case in range(CASES)]
    print(f"{'injected':16}{'right':>7}  named otherwise")
    for cause in Cause:
        those = [told for truth, told in cases if truth is cause]
        wrong = ", ".join(told.value for told in those if told is not cause)
        print(f"{cause.value:16}{sum(told is cause for told in those):>4}/{len(those)}  {wrong}")
    points: list[Unmeasured] = []
    speedups: list[tuple[float, bool]] = []
    for case in range(3 if short else 12):
        world = ordinary(case)
        service = fitted(world, case)
        points += predicted(world, service, case)
        speedups.append(speedup(world, service, case))
    print(f"\n{'replicas':>8}{'rate/s':>9}{'throughput':>12}{'p50':>7}{'p99':>7}  errors")
    for p in points:
        rate = p.load.per_s or 0.0
        print(f"{p.load.replicas:>8}{rate:>9,.0f}{p.throughput_error:>12.1%}{p.p50_error:>7.0%}{p.p99_error:>7.0%}")
    return {
        "bottleneck_right_ratio": round(sum(truth is told for truth, told in cases) / len(cases), 3),
        "throughput_error_ratio": round(statistics.median(p.throughput_error for p in points), 4),
        "p99_error_ratio": round(statistics.median(p.p99_error for p in points), 3),
        "p99_error_ratio_worst": round(max(p.p99_error for p in points), 3),
        "tuned_speedup": round(statistics.median(ratio for ratio, _ in speedups), 2),
        "tuned_kept_slo_ratio": sum(kept for _, kept in speedups) / len(speedups),
        "measured_on": "event simulation",
    }


def judged(figures: Mapping[str, object]) -> int:
    """Prints the figures; 0 when those of them that have a target reach it."""
    passed = (
        float(str(figures.get("bottleneck_right_ratio", 1.0))) >= 0.9
        and float(str(figures["throughput_error_ratio"])) <= 0.15
        and float(str(figures["p99_error_ratio"])) <= 0.25
        and float(str(figures["tuned_speedup"])) >= 1.5
    )
    targets = {name: target for name, target in TARGETS.items() if name in figures}
    print(json.dumps({"name": "performance_model", "figures": figures, "targets": targets, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
