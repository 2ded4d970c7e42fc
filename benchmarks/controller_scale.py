"""What it costs to watch a fleet: one beat a second from each node, folded and decided upon.

python benchmarks/controller_scale.py [--short]

Each second brings a beat of every node, in batches of 20 ms as they arrive. All beats update the beliefs; every node's
probability is computed, its state folded, and its threshold compared; one node in a thousand shows signs, gets its
remedy by expected cost, its reasons in words, and the guard's ruling. `cores` is processor time over the time
simulated; `p99_ms` is the 99th percentile, over all nodes decided upon, of the time from the arrival of the batch with
the signs to the ruling. Transport of the beats, detectors and the store are not part of these figures.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fleet import HORIZON_S, Rates, learn_from_history
from platformops.clock import ManualClock
from platformops.health.filter import Belief, at_rest, predict, update, within_horizon
from platformops.health.fold import Condition, Observation, fold
from platformops.health.fusion import FusedModel
from platformops.health.guard import Fleet, Guard, Order, rule
from platformops.health.hazard import PUBLISHED, NodeHistory, failure_probability, hazard_per_s, watched
from platformops.health.remedy import Prices, Suspicion, Workload, acts_from, choose
from platformops.health.risk import Readings

SIZES = (100, 1000, 10_000)
TARGETS = {"cores": 0.5, "rss_mb": 500.0, "p99_ms": 100.0, "flatness": 1.5}
WORK = Workload(
    slots=64, unsaved_s=600.0, next_checkpoint_s=600.0, checkpoint_s=60.0, detection_s=8.0, restart_s=180.0,
    move_s=120.0, has_spare=True,
)  # fmt: skip
NUM_BATCHES = 50
PRICES = Prices(horizon_s=HORIZON_S)


@dataclass(slots=True)
class Watched:
    """Everything that is kept of one node."""

    history: NodeHistory
    belief: Belief
    condition: Condition = field(default_factory=Condition)


class Watch:
    """The pure rules over a whole fleet, as a controller calls them."""

    def __init__(self, num_nodes: int, model: FusedModel) -> None:
        self.model, self.guard, self.threshold = model, Guard(), acts_from(WORK, PRICES)
        self.nodes = [Watched(NodeHistory(0.0), at_rest(PUBLISHED.mean_per_s, 0.0)) for _ in range(num_nodes)]
        self.fleet = Fleet(num_nodes, num_nodes, num_nodes // 2, num_nodes)
        self.decided_s: list[float] = []

    def meet(self, beats: list[tuple[int, Readings]], now: float) -> None:
        begin = time.perf_counter()
        for number, readings in beats:
            node = self.nodes[number]
            node.history = watched(node.history, now)
            rate = hazard_per_s(node.history, PUBLISHED, now)
            node.belief = predict(node.belief, rate, now)
            evidence = self.model.log_odds(0.5, readings)
            node.belief = update(node.belief, {"fused": evidence})
            p = within_horizon(node.belief, rate, HORIZON_S)
            if p < 0.3 * self.threshold and node.condition.calm_since is not None:
                continue
            self._decide(number, node, p, readings, now, begin)

    def _decide(self, number: int, node: Watched, p: float, readings: Readings, now: float, begin: float) -> None:
        seen = Observation(p, self.threshold)
        node.condition = fold(node.condition, seen, now).condition
        if p < self.threshold:
            return
        prior = failure_probability(hazard_per_s(node.history, PUBLISHED, now) * HORIZON_S)
        self.model.judge(prior, readings)
        choice = choose(Suspicion(p), WORK, PRICES)
        self.guard = rule(self.guard, Order(str(number), choice.remedy, 1, now), self.fleet, now).guard
        self.decided_s.append(time.perf_counter() - begin)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer ticks")
    num_ticks = 20 if parser.parse_args().short else 120
    model = learn_from_history(Rates(), np.random.default_rng(1), num_cases=200_000)
    rows = {size: _measure(size, model, num_ticks) for size in SIZES}
    print(f"{'nodes':>7} {'cores':>7} {'us a beat':>10} {'rss MB':>7} {'p99 ms':>8}")
    for size, row in rows.items():
        print(f"{size:7d} {row['cores']:7.3f} {row['us_per_beat']:10.1f} {row['rss_mb']:7.0f} {row['p99_ms']:8.2f}")
    last = rows[SIZES[-1]]
    flatness = max(r["us_per_beat"] for r in rows.values()) / min(r["us_per_beat"] for r in rows.values())
    figures = {"nodes": SIZES[-1], **last, "flatness": round(flatness, 2)}
    passed = all(figures[name] <= limit for name, limit in TARGETS.items())
    print(json.dumps({"name": "controller_scale", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


def _measure(num_nodes: int, model: FusedModel, num_ticks: int) -> Mapping[str, float]:
    watch, clock, rng = Watch(num_nodes, model), ManualClock(0.0), np.random.default_rng(3)
    ill: Readings = {"errors": 30.0, "slow": 5.0}
    # A small fleet is turned for longer, so that each size folds enough beats for a figure.
    turns = max(num_ticks, num_ticks * 1000 // num_nodes)
    spent_s = 0.0
    for _ in range(turns):
        beats: list[Readings] = [{"errors": float(e), "slow": float(s)} for e, s in _quiet(rng, num_nodes)]
        for number in rng.integers(0, num_nodes, max(1, num_nodes // 1000)):
            beats[number] = ill
        numbered = list(enumerate(beats))
        begin = time.process_time()
        for part in range(NUM_BATCHES):
            clock.sleep(1.0 / NUM_BATCHES)
            watch.meet(numbered[part::NUM_BATCHES], clock.now())
        spent_s += time.process_time() - begin
    return {
        "cores": round(spent_s / turns, 4),
        "us_per_beat": round(spent_s / turns / num_nodes * 1e6, 2),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, 1),
        "p99_ms": round(float(np.quantile(watch.decided_s, 0.99)) * 1000.0, 3),
    }


def _quiet(rng: np.random.Generator, num_nodes: int) -> list[tuple[float, float]]:
    return list(zip(rng.poisson(0.2, num_nodes), rng.normal(size=num_nodes), strict=True))


if __name__ == "__main__":
    sys.exit(main())
