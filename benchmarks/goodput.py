"""Share of time that a training on a fleet spends on work that counts, with and without prediction, in simulation.

python benchmarks/goodput.py [--short]

One gang of 128, 1,024 and 2,048 nodes at 6.5 failures per 1,000 node-days (see `fleet.py` for what is published there
and what is assumed), a checkpoint of 60 s, under four policies. The platform's rows run its own code: hazards, fused
model, fold, expected cost, guard, placement, checkpoint interval; the model is learnt on a simulated fleet of other
seeds. Detection takes the 8 and 10 s that are the platform's own limits for a frozen node and a hung rank.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fleet import Rates, learn_from_history
from benchmarks.gang import DEFAULTS, Gang, Policy, Tally
from platformops.health.hazard import DAY_S

SIZES = (128, 1024, 2048)
TARGETS = {"1024": {"goodput_no_prediction": 0.90, "goodput_prediction": 0.915}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer runs; under two minutes")
    num_runs = 3 if parser.parse_args().short else 12
    model = learn_from_history(Rates(), np.random.default_rng(1))
    policies = {
        "defaults": DEFAULTS,
        "no_prediction": Policy(),
        "prediction": Policy(model=model),
        "oracle": Policy(interval_s=5000.0, is_oracle=True),
    }
    figures = {str(size): _figures(size, policies, num_runs) for size in SIZES}
    passed = all(figures[size][key] >= least for size, limits in TARGETS.items() for key, least in limits.items())
    print(json.dumps({"name": "goodput", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


def _figures(size: int, policies: dict[str, Policy], num_runs: int) -> dict[str, float]:
    failure_s = DAY_S / (size * Rates().per_1000_node_days / 1000.0)
    days = max(30.0, min(180.0, 400.0 * failure_s / DAY_S))
    print(f"{size} nodes, {days:.0f} days, {num_runs} runs, a failure every {failure_s / 3600.0:.1f} h")
    found: dict[str, float] = {}
    for name, policy in policies.items():
        gangs = [Gang(size, policy, np.random.default_rng([7, size, run])) for run in range(num_runs)]
        ratios = np.asarray([gang.ratio(days) for gang in gangs])
        error = float(ratios.std(ddof=1)) / num_runs**0.5
        print(f"  {name:14s} {ratios.mean():.4f} +- {error:.4f}{_said([gang.tally for gang in gangs])}", flush=True)
        found[f"goodput_{name}"] = round(float(ratios.mean()), 4)
        if policy.model is not None:
            found |= _accuracy([gang.tally for gang in gangs])
    gap = found["goodput_oracle"] - found["goodput_defaults"]
    for name in ("no_prediction", "prediction"):
        found[f"gap_closed_{name}"] = round((found[f"goodput_{name}"] - found["goodput_defaults"]) / gap, 3)
    return found


def _accuracy(tallies: list[Tally]) -> dict[str, float]:
    """Recall of failures by moves made in time, and how many of the moves met a failure."""
    foreseen, moves = sum(t.foreseen for t in tallies), sum(t.moves for t in tallies)
    failures = sum(t.failures for t in tallies)
    return {"recall": round(foreseen / max(failures, 1), 3), "precision": round(foreseen / max(moves, 1), 3)}


def _said(tallies: list[Tally]) -> str:
    moves, checkpoints = sum(t.moves for t in tallies), sum(t.checkpoints for t in tallies)
    if not moves + checkpoints:
        return ""
    accuracy = _accuracy(tallies)
    return (
        f"; {moves} moves (recall {accuracy['recall']}, precision {accuracy['precision']}), {checkpoints} checkpoints"
    )


if __name__ == "__main__":
    sys.exit(main())
