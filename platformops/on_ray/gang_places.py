"""Room for a gang: all of its workers at once or none, in its turn, and off nodes that are closed or doubtful."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ray
from ray._private.state import available_resources_per_node

from platformops.clock import Clock
from platformops.errors import ClusterError
from platformops.on_ray.avoiding import avoided, hazards_per_s, suspected
from platformops.on_ray.gang_line import Line
from platformops.scheduler.order import over_quota
from platformops.scheduler.place import place
from platformops.scheduler.records import Held, Job, NodeView, Placement, Plan, Priority, Team

PATIENCE_S = 120.0
"""Where nothing runs or waits that could make room, no room will come."""
LONGEST_WAIT_S = 24 * 3600.0
LOOK_S = 1.0


def gang(name: str, needs: Mapping[str, float], num_workers: int, *, team: str = "", now: float = 0.0) -> Job:
    """A job of training; `team` is who shares the cluster with others, `now` when it was asked for."""
    return Job(name, team, now, num_tasks=num_workers, needs=needs, priority=Priority.TRAINING)


def off_limits(job: Job, views: Sequence[NodeView]) -> tuple[str, ...]:
    """Nodes that the gang keeps off: the closed ones, and every suspect one that it can do without.

    Among the others Ray chooses: which of them is free may change before it does.
    """
    placed = _of(place([job], views, now=0.0), job)
    used = set(placed.nodes) if isinstance(placed, Placement) else {view.id for view in views}
    return tuple(v.id for v in views if not v.takes_work or (v.is_suspect and v.id not in used))


def kept_off(needs: Mapping[str, float], num_tasks: int = 1) -> tuple[str, ...]:
    """Nodes that new work keeps off for as long as it lives: the closed ones, and the suspect and slow ones where there
    is room for it without them now. Raises ClusterError while Ray does not tell its nodes."""
    return off_limits(gang("work", needs, num_tasks), node_views()) if suspected() else avoided()


def wait_for_room(
    job: Job,
    views: Callable[[], Sequence[NodeView]],
    line: Line,
    clock: Clock,
    tell: Callable[[None, str], None],
) -> None:
    """Returns once the whole gang fits and it is its turn among those that wait: by priority that grows with waiting,
    fair share, and who came first. Until then `tell` has why it waits, and so has the line.

    Raises ClusterError at once for a gang that is larger than its team's quota, after PATIENCE_S in which nothing ran
    or waited that could make room, else after LONGEST_WAIT_S.
    """
    began, hopeful_at, said = clock.monotonic(), clock.monotonic(), ""
    if never := over_quota(job, line.teams().get(job.team, Team(job.team)), {}):
        raise ClusterError(f"it never fits: {never}", remedy=f"platformops quota {job.team} says and changes it")
    try:
        while True:
            others, running = line.others(job), line.running(job)
            plan = place([job, *others], views(), running=running, teams=line.teams(), now=clock.now())
            placed = _of(plan, job)
            if isinstance(placed, Placement):
                break
            now = clock.monotonic()
            hopeful_at = now if running or others else hopeful_at
            if now - hopeful_at > PATIENCE_S or now - began > LONGEST_WAIT_S:
                raise ClusterError(
                    f"no room for the whole gang within {now - began:.0f} s: {placed.reason}",
                    remedy="stop what holds it (`platformops status`), or add a node",
                )
            line.tell(job, placed.reason)
            if placed.reason != said:
                said = placed.reason
                tell(None, f"waits for room: {said}")
            clock.sleep(LOOK_S)
        line.start(job)  # before it leaves: between the two it must not be missing from both
    finally:
        line.leave(job)


def node_views() -> list[NodeView]:
    """The living nodes as they are now. Raises ClusterError while Ray does not tell them."""
    try:
        free = available_resources_per_node()
        living = [str(n["NodeID"]) for n in ray.nodes() if n["Alive"]]
    except (ray.exceptions.RayError, RuntimeError) as error:
        raise ClusterError(f"Ray does not tell its nodes: {error}") from error
    closed, suspects, hazards = avoided(), suspected(), hazards_per_s(living)
    return [
        NodeView(
            id=node,
            free=free.get(node, {}),
            takes_work=node not in closed,
            is_suspect=node in suspects,
            hazard_per_s=hazards[node],
            why_not="closed by node health" if node in closed else "",
        )
        for node in sorted(living)
    ]


def _of(plan: Plan, job: Job) -> Placement | Held:
    """What the plan for all that wait says of this one."""
    placed = next((one for one in plan.placements if one.job == job.name), None)
    return placed or next(one for one in plan.held if one.job == job.name)
