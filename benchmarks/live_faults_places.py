"""Nodes with a share of memory or processor of their own, which a leak or a twentieth of a processor makes ill."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.live_faults_cluster import LOOK_S, Site, until
from benchmarks.live_faults_kinds import FOUND_WITHIN_S, Struck, false_since
from platformops.health.drills import AWAY, Wanted
from platformops.health.remedy import Remedy
from platformops.on_ray import drill_places
from platformops.on_ray.drill_places import Place, Settled
from platformops.on_ray.undoing import Undoing

SETTLE_S = 20.0
"""Three samples, so that the node has a past."""


def slowed(made: Site) -> Struck:
    """Found is that it is weighed down and every process that places work knows it."""
    from platformops.on_ray.avoiding import suspected

    with _node(made, Place.PROCESSOR) as (node, settled):
        began, began_at = time.monotonic(), time.time()
        drill_places.slow_down(settled)
        found_s = _until(began, lambda: _remedy(made, node) is Remedy.WEIGH_DOWN and node in suspected())
        drill_places.speed_up(settled)
        return _struck(made, "slow_node", Wanted.WEIGHED_DOWN, node, began_at, found_s)


def leaked(made: Site) -> Struck:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from platformops.on_ray.drill_faults import Leak

    with _node(made, Place.MEMORY) as (node, _):
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        leak = ray.remote(Leak).options(num_cpus=0, scheduling_strategy=where).remote()
        began, began_at = time.monotonic(), time.time()
        ray.get(leak.begin.remote(), timeout=60)
        found_s = _until(began, lambda: _remedy(made, node) in AWAY)
        return _struck(made, "leak", Wanted.AVOIDED, node, began_at, found_s)


@contextmanager
def _node(made: Site, place: Place) -> Iterator[tuple[str, Settled]]:
    """A node more for as long as it is entered; its processes are in a group of their own."""
    if reason := drill_places.why_not(place, "127.0.0.1"):
        raise SystemExit(reason)
    with Undoing() as undoing:
        settled = drill_places.settle(place, f"pf{secrets.token_hex(4)}", undoing, disk_at="")
        assert settled.group is not None, "made with the place"
        before = _own_group(settled.group)
        (settled.group / "cgroup.procs").write_text("0")
        try:
            node = made.add()
        finally:
            (before / "cgroup.procs").write_text("0")
        until(lambda: made.is_heard(node), "the node is heard")
        time.sleep(SETTLE_S)
        try:
            yield node, settled
        finally:
            made.remove(node)


def _own_group(group: Path) -> Path:
    """Of this process, beside the one that was made."""
    controller = group.parent.name
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    path = next(path for _, controllers, path in lines if controller in controllers.split(",") or controllers == "")
    inside = group.parent / path.lstrip("/")
    return inside if inside.exists() else group.parent


def _remedy(made: Site, node: str) -> Remedy:
    record = made.record(node)
    return record.remedy if record else Remedy.WAIT


def _until(began: float, condition: Callable[[], bool]) -> float | None:
    while time.monotonic() - began < FOUND_WITHIN_S:
        if condition():
            return round(time.monotonic() - began, 2)
        time.sleep(LOOK_S)
    return None


def _struck(made: Site, kind: str, wanted: Wanted, node: str, since: float, found_s: float | None) -> Struck:
    false = false_since(made, wanted, node, since)
    return Struck(kind, found_s=found_s, is_missed=found_s is None, false=false)
