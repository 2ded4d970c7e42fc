"""Every known defect, released under load on a real Ray: what stopped it, and what it cost users.

    python benchmarks/release_drills.py [--short]

Afterwards an equal model is released on the same terms: guards that stop everything would stop it, too. `--short`
drills only defects that are caught before traffic, and leaves that release out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.release_site import SYSTEM, Site, machine, site, wanted

SHORT = ("load-error", "errors", "nan-outputs", "permuted-labels")
RATE_PER_S, CONNECTIONS = 80.0, 1
TARGETS = {"stopped": "== defects", "requests_lost": "== 0", "seconds_to_stable_max": "<= 2"}


def _equal(made: Site) -> str:
    """What became of a release of the live model's twin."""
    rollout = made.ended(made.release(made.version(2), wanted(min_bake="2s")))
    print(f"an equal model: {rollout.state.value}: {rollout.reason}", flush=True)
    return rollout.state.value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--defect", action="append", default=[], help="only this one; repeatable")
    asked = parser.parse_args()
    from platformops.cli.drilling import Range, drilled
    from platformops.delivery.drills import DEFECTS, manner_of
    from platformops.delivery.records import RolloutState

    names = asked.defect or (SHORT if asked.short else tuple(DEFECTS))
    with site() as made:
        first = made.ended(made.release(made.version(1), wanted()))
        if first.state is not RolloutState.PROMOTED:
            raise SystemExit(first.reason)
        print(f"{'defect':<20} {'caught by':<14} {'requests':>8} {'exposure':>9} {'lost':>5} {'back on stable':>15}")
        cases = []
        with made.load(rate_per_s=RATE_PER_S, connections=CONNECTIONS, patience_s=0.0) as load:
            at = Range(made.store, made.clock, SYSTEM, manner_of(wanted()), load, lambda progress: None)
            for case in drilled([DEFECTS[name] for name in names], at):
                cases.append(case)
                print(
                    f"{case.name:<20} {case.caught_by or 'nothing':<14} {case.requests_to_verdict:>8,} "
                    f"{case.exposure_ratio:>9.3%} {case.requests_lost:>5} {case.to_stable_s:>13.2f} s",
                    flush=True,
                )
            equal = "" if asked.short else _equal(made)
            requests, lost = load.seen.requests, len(load.seen.lost)
        broken = made.settled()
    figures = {
        "defects": len(cases),
        "stopped": sum(bool(case.caught_by) for case in cases),
        "requests_lost": lost,
        "seconds_to_stable_max": max(case.to_stable_s for case in cases),
        "requests": requests,
        "broken_invariants": len(broken),
        **({"equal_model": equal} if equal else {}),
        **machine(),
    }
    for problem in broken:
        print(f"after the drills: {problem}")
    is_safe = lost == 0 and all(case.to_stable_s <= 2.0 for case in cases)
    is_fair = equal in ("", "promoted")
    passed = figures["stopped"] == figures["defects"] and is_safe and is_fair and not broken
    print(json.dumps({"name": "release_drills", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
