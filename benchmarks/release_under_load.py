"""Steady requests through everything that a release is and meets: none may fail.

    python benchmarks/release_under_load.py [--short]

Deploy, every step, promotion, rollback; then SIGKILL of the controller, of a canary replica and of a stable replica
while a release runs, and of the gateway. Two replicas a revision. `--short` leaves the release of its own out, as the
one in which the controller is killed is promoted, too, and kills it twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.release_site import SYSTEM, Site, machine, site, wanted

if TYPE_CHECKING:
    from platformops.delivery.records import Rollout

IN_SHORT = frozenset({"shifting shadow", "shifting 50%"})
"""Each death of the controller costs ten seconds of a release on two busy cores."""
Watching = Callable[["Rollout"], None]
RATE_PER_S, CONNECTIONS = 60.0, 3
PATIENCE_S = 20.0
"""A client tries a broken connection again for so long; that it had to is counted beside."""
TARGETS = {"failed": "== 0"}
RELEASE = {"min_bake": "2s", "margins": {"latency": "100%", "disagreement": "50%"}}
"""Two replicas start beside the requests, on as few cores as there are: this measures loss, not judgement."""


@dataclass(frozen=True)
class Phase:
    """What was sent while something was done."""

    name: str
    requests: int
    failed: int
    interrupted: int
    seconds: float
    problem: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    is_short = parser.parse_args().short
    from platformops.delivery import orders

    spec, phases = wanted(2, **RELEASE), []
    with site() as made:
        made.ended(made.release(made.version(1), spec))
        versions = [made.version(n) for n in ((2,) if is_short else (2, 3))]
        with made.load(rate_per_s=RATE_PER_S, connections=CONNECTIONS, patience_s=PATIENCE_S) as load:

            @contextlib.contextmanager
            def phase(name: str) -> Iterator[None]:
                before, began = (load.seen.requests, len(load.seen.lost), load.seen.interrupted), time.monotonic()
                yield
                time.sleep(2.0)
                lost = load.seen.lost[before[1] :]
                phases.append(
                    Phase(
                        name,
                        load.seen.requests - before[0],
                        len(lost),
                        load.seen.interrupted - before[2],
                        time.monotonic() - began,
                        lost[0][:90] if lost else "",
                    )
                )
                print_phase(phases[-1])

            print(f"{'while':<52} {'requests':>8} {'failed':>6} {'interrupted':>11} {'seconds':>8}")
            if not is_short:
                with phase("deploy, every step, promotion"):
                    expect(made.ended(made.release(versions.pop(0), spec)), "promoted")
                with phase("rollback to what is still warm"):
                    expect(
                        made.ended(orders.roll_back(made.store, SYSTEM, who="ada", now=made.clock.now())),
                        "promoted",
                    )
            with phase("a release whose controller is killed at each step"):
                killed = killing_controller(IN_SHORT if is_short else None)
                expect(made.ended(made.release(versions[0], spec), watch=killed), "promoted")
            with phase("SIGKILL of a stable replica"):
                kill_replica(made, stable_name(made))
                until_replicas(made, stable_name(made), 2)
            with phase("SIGKILL of a canary replica, and rollback of its release"):
                asked = made.release(made.version(9), spec)
                made.ended(asked, watch=killing_canary(made, asked.candidate.name))
            with phase("SIGKILL of the gateway, the one router"):
                os.kill(actor_pid("GatewayProcess"), signal.SIGKILL)
                time.sleep(8.0)
            requests, failed = load.seen.requests, len(load.seen.lost)
            interrupted = load.seen.interrupted
        broken = made.settled()
    for problem in broken:
        print(f"afterwards: {problem}")
    figures = {
        "requests": requests,
        "failed": failed,
        "interrupted": interrupted,
        "failed_in_rollouts": sum(p.failed for p in phases if "SIGKILL" not in p.name),
        "broken_invariants": len(broken),
        **machine(),
    }
    passed = failed == 0 and not broken
    print(json.dumps({"name": "release_under_load", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


def print_phase(seen: Phase) -> None:
    print(
        f"{seen.name:<52} {seen.requests:>8,} {seen.failed:>6} {seen.interrupted:>11} {seen.seconds:>8.1f}  "
        f"{seen.problem}",
        flush=True,
    )


def expect(rollout: Rollout, state: str) -> None:
    if rollout.state.value != state:
        print(f"{rollout.name} is {rollout.state.value}: {rollout.reason}")


def killing_controller(only: frozenset[str] | None) -> Watching:
    """Kills the controller once in each state and at each step that the rollout reaches, or in those of `only`."""
    killed: set[str] = set()

    def watch(rollout: Rollout) -> None:
        at = f"{rollout.state.value} {rollout.steps[rollout.step]}"
        if at not in killed and (only is None or at in only):
            killed.add(at)
            with contextlib.suppress(ProcessLookupError, LookupError):
                os.kill(actor_pid("ControllerProcess"), signal.SIGKILL)

    return watch


def killing_canary(made: Site, name: str) -> Watching:
    """Kills one replica of the candidate at the first step at which it has users, then rolls back."""
    from platformops.delivery import orders
    from platformops.errors import InvalidTransition, StoreConflict, UserError

    killed: list[float] = []

    def watch(rollout: Rollout) -> None:
        if not killed and rollout.steps[rollout.step] == "50%" and rollout.routed_at:
            killed.append(time.monotonic())
            kill_replica(made, name)
        if killed and time.monotonic() - killed[0] > 5.0:
            with contextlib.suppress(StoreConflict, InvalidTransition, UserError):
                orders.abort(made.store, SYSTEM, who="ada", now=made.clock.now())

    return watch


def stable_name(made: Site) -> str:
    from platformops.delivery.systems import load_system

    system, _ = load_system(made.store, SYSTEM)
    assert system is not None
    assert system.stable is not None
    return system.stable.name


def kill_replica(made: Site, revision: str) -> None:
    from platformops.on_ray.serving import probed

    os.kill(int(probed(revision, ()).replica.partition("@")[0]), signal.SIGKILL)


def until_replicas(made: Site, revision: str, count: int) -> None:
    from platformops.on_ray.serving import revision_status

    until = time.monotonic() + 60
    time.sleep(3.0)  # until its death is known
    while revision_status(revision).ready < count and time.monotonic() < until:
        time.sleep(0.2)


def actor_pid(name: str) -> int:
    """The process of one of the platform's named actors, of this script's Ray. Raises LookupError without one."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if name in " ".join(process.cmdline()):
                return int(process.pid)
    raise LookupError(name)


if __name__ == "__main__":
    raise SystemExit(main())
