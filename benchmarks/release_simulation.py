"""How often harmless releases are stopped and harmful ones are not: thousands of releases under the real controller.

`--short` simulates a fifth of them. Releases go in steps, with the spec's defaults
otherwise; what is above a margin is what these call harmful.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.release_traffic import Profile, Traffic
from benchmarks.release_world import Candidate, Outcome, released, spec_in_steps, with_errors
from platformops.delivery.records import RolloutState

RATES_PER_S = (0.2, 1.0, 5.0, 30.0, 200.0)
FALSE_ALARMS = 0.05
UNPROVEN = "evidence"
TARGETS = {"false_alarm_ratio": "<= 0.05", "stopped_ratio": ">= 0.99", "median_exposure_ratio": "<= 0.01"}
LABELLED = 0.1
"""Of copies, those of which the truth comes back."""


@dataclass(frozen=True)
class Defect:
    """One way to be harmful, in four sizes."""

    name: str
    make: Callable[[Profile, float], Candidate]
    sizes: tuple[float, float, float, float]
    margin: float = 0.0
    """Sizes up to this are not harmful."""


def _profile(change: Callable[[Profile, float], Profile]) -> Callable[[Profile, float], Candidate]:
    return lambda profile, size: Candidate(change(profile, size))


def _accuracy(profile: Profile, size: float) -> Profile:
    return replace(profile, disagreement=profile.disagreement + size, wrong=(0.01 + size, 0.01))


def _otherwise(profile: Profile, size: float) -> Profile:
    return replace(profile, disagreement=max(size, profile.disagreement), wrong=(0.9 * size, 0.01))


WHOLE = (1.0, 1.0, 1.0, 1.0)
DEFECTS = (
    Defect("crash at start", lambda p, _: Candidate(p, broken="exit code 1"), WHOLE),
    Defect("load error", lambda p, _: Candidate(p, broken="ArtifactCorrupt: weights"), WHOLE),
    Defect("missing dependency", lambda p, _: Candidate(p, broken="ModuleNotFoundError"), WHOLE),
    Defect("changed response schema", lambda p, _: Candidate(p, unreadable="no field 'label'"), WHOLE),
    Defect("hang", _profile(lambda p, s: replace(p, deadlines=s)), (0.02, 0.1, 0.3, 1.0)),
    Defect("latency", _profile(lambda p, s: p.slower(1 + s)), (0.05, 0.2, 0.4, 1.0), margin=0.15),
    Defect("errors", _profile(with_errors), (0.0025, 0.01, 0.02, 0.05), margin=0.005),
    Defect("NaN outputs", _profile(with_errors), (0.02, 0.1, 0.3, 1.0)),
    Defect("permuted labels", _profile(_otherwise), (0.2, 0.5, 0.8, 1.0)),
    Defect("wrong normalisation", _profile(_otherwise), (0.08, 0.15, 0.3, 0.6)),
    Defect("accuracy", _profile(_accuracy), (0.01, 0.03, 0.06, 0.12), margin=0.02),
    Defect("memory growth", _profile(lambda p, s: replace(p, leak_bytes_per_request=s)), (5e4, 2e5, 1e6, 4e6)),
)


@dataclass(frozen=True)
class Case:
    """One release to simulate; the same case always ends the same way."""

    seed: int
    rate_per_s: float
    defect: int | None = None
    size: float = 0.0


def simulated(case: Case) -> Outcome:
    luck = np.random.default_rng(case.seed)
    ordinary = Profile(
        errors=float(10 ** luck.uniform(-4, -2.5)),
        median_ms=float(10 ** luck.uniform(0.5, 2)),
        spread=float(luck.choice([0.3, 0.5, 0.7, 1.0])),
        tail=float(luck.choice([0.0, 0.02, 0.05])),
        disagreement=0.01,
    )
    defect = DEFECTS[case.defect] if case.defect is not None else None
    candidate = defect.make(ordinary, case.size) if defect else Candidate(ordinary)
    profiles = {"sim-r1": ordinary, "sim-r2": candidate.profile}
    labelled = LABELLED if defect else 0.0
    return released(spec_in_steps(), Traffic(case.rate_per_s, profiles, luck, labelled=labelled), candidate)


def harmless_cases(count: int) -> list[Case]:
    return [Case(seed, RATES_PER_S[seed % len(RATES_PER_S)]) for seed in range(count)]


def harmful_cases(count: int) -> list[Case]:
    kinds = [(d, size) for d in range(len(DEFECTS)) for size in DEFECTS[d].sizes]
    seeds = range(10_000, 10_000 + count)
    return [Case(s, RATES_PER_S[(i // len(kinds)) % 5], *kinds[i % len(kinds)]) for i, s in enumerate(seeds)]


def is_stopped(outcome: Outcome) -> bool:
    return outcome.state is not RolloutState.PROMOTED


def is_alarm(outcome: Outcome) -> bool:
    return is_stopped(outcome) and outcome.caught_by != UNPROVEN


def is_above(case: Case) -> bool:
    return case.defect is not None and case.size > DEFECTS[case.defect].margin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a fifth of the releases")
    is_short = parser.parse_args().short
    harmless, harmful = harmless_cases(400 if is_short else 2000), harmful_cases(240 if is_short else 1000)
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        outcomes = pool.map(simulated, [*harmless, *harmful], chunksize=8)
    seconds = time.perf_counter() - began
    same, bad = outcomes[: len(harmless)], outcomes[len(harmless) :]
    worst = _print_harmless(harmless, same)
    _print_harmful(harmful, bad)
    _print_detection(harmful, bad)
    above = [o for c, o in zip(harmful, bad, strict=True) if is_above(c)]
    figures = {
        "false_alarm_ratio": round(worst, 4),
        "stopped_ratio": round(sum(map(is_stopped, above)) / len(above), 4),
        "median_exposure_ratio": round(float(np.median([o.exposed / max(1, o.requests) for o in above])), 6),
        "releases": len(outcomes),
        "seconds": round(seconds, 1),
        "stopped_by_alarm_ratio": round(sum(map(is_alarm, above)) / len(above), 4),
        "promoted_harmless_ratio": round(1 - sum(map(is_stopped, same)) / len(same), 4),
    }
    passed = worst <= FALSE_ALARMS and figures["stopped_ratio"] >= 0.99 and figures["median_exposure_ratio"] <= 0.01
    print(json.dumps({"name": "release_simulation", "figures": figures, "targets": TARGETS, "passed": bool(passed)}))
    return 0 if passed else 1


def _print_harmless(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> float:
    """The table by traffic; the largest share of false alarms at any level."""
    print(f"{'requests/s':>10} {'releases':>8} {'alarms':>7} {'ratio':>7} {'unproven':>8} {'median time':>12}")
    ratios = []
    for rate in RATES_PER_S:
        own = [o for c, o in zip(cases, outcomes, strict=True) if c.rate_per_s == rate]
        alarms, unproven = sum(map(is_alarm, own)), sum(o.caught_by == UNPROVEN for o in own)
        ratios.append(alarms / len(own))
        took = float(np.median([o.seconds for o in own]))
        print(f"{rate:>10g} {len(own):>8} {alarms:>7} {ratios[-1]:>7.2%} {unproven:>8} {took:>10,.0f} s")
    return max(ratios)


def _print_harmful(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> None:
    print(f"\n{'defect':<24} {'size':>8} {'':>5} {'stopped':>9} {'exposure':>9} {'requests':>9}  caught by")
    for kind, defect in enumerate(DEFECTS):
        for size in dict.fromkeys(defect.sizes):
            own = [o for c, o in zip(cases, outcomes, strict=True) if (c.defect, c.size) == (kind, size)]
            stopped = [o for o in own if is_stopped(o)]
            by = sorted({o.caught_by for o in stopped})
            exposure = float(np.median([o.exposed / max(1, o.requests) for o in own]))
            trials = float(np.median([o.trials for o in own]))
            side = "" if size > defect.margin else "below"
            print(
                f"{defect.name:<24} {size:>8g} {side:>5} {len(stopped):>4}/{len(own):<4} "
                f"{exposure:>9.3%} {trials:>9,.0f}  {', '.join(by)}"
            )


def _print_detection(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> None:
    """Requests to detection beside a fixed-sample test with the same power, told the size of the defect beforehand."""
    print(
        f"\n{'defect':<16} {'size':>7} {'power':>6} {'ours, median':>13} {'ours, 80 %':>11} {'fixed sample, 80 %':>19}"
    )
    for kind, defect in enumerate(DEFECTS):
        if defect.name not in FIXED_SAMPLE:
            continue
        for size in (s for s in defect.sizes if s > defect.margin):
            own = [o for c, o in zip(cases, outcomes, strict=True) if (c.defect, c.size) == (kind, size)]
            trials = [o.trials if is_alarm(o) else math.inf for o in own]
            power = sum(math.isfinite(t) for t in trials) / len(trials)
            median, most = np.quantile(trials, [0.5, 0.8], method="higher")
            fixed = FIXED_SAMPLE[defect.name](size)
            print(f"{defect.name:<16} {size:>7g} {power:>6.0%} {median:>13,.0f} {most:>11,.0f} {fixed:>13,.0f}")


def two_proportions(p: float, q: float, alpha: float = FALSE_ALARMS / 2) -> float:
    """Sample size a side at which a one-sided z-test tells `p` from `q` with 80 % power."""
    z = norm.ppf(1 - alpha) + norm.ppf(0.8)
    return float((z / (p - q)) ** 2 * (p * (1 - p) + q * (1 - q)))


def one_proportion(p: float, q: float, alpha: float = FALSE_ALARMS / 2) -> float:
    z = norm.ppf(1 - alpha) * math.sqrt(q * (1 - q)) + norm.ppf(0.8) * math.sqrt(p * (1 - p))
    return float((z / (p - q)) ** 2)


FIXED_SAMPLE: dict[str, Callable[[float], float]] = {
    "errors": lambda size: two_proportions(0.001 + size, 0.001),
    "NaN outputs": lambda size: two_proportions(min(0.99, 0.001 + size), 0.001),
    "latency": lambda size: two_proportions(float(norm.cdf(math.log1p(size) / 0.6)), 0.5),
    "accuracy": lambda size: one_proportion(0.01 + size, 0.02),
}

if __name__ == "__main__":
    raise SystemExit(main())
