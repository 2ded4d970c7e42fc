"""Room for a gang: all of its workers at once or none, and off nodes that are closed, or suspect where it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ray
from ray._private.state import available_resources_per_node

from platformops.clock import Clock
from platformops.errors import ClusterError
from platformops.on_ray.avoiding import avoided, hazards_per_s, suspected
from platformops.scheduler.place import place
from platformops.scheduler.records import Held, Job, NodeView, Placement, Priority

PATIENCE_S = 120.0
LOOK_S = 1.0


def gang(name: str, needs: Mapping[str, float], num_workers: int) -> Job:
    return Job(name, team="", submitted_at=0.0, num_tasks=num_workers, needs=needs, priority=Priority.TRAINING)


def off_limits(job: Job, views: Sequence[NodeView]) -> tuple[str, ...]:
    """Nodes that the gang keeps off: the closed ones, and every suspect one that it can do without.

    Among the others Ray chooses: which of them is free may change before it does.
    """
    placed = _placed(job, views)
    used = set(placed.nodes) if isinstance(placed, Placement) else {view.id for view in views}
    return tuple(v.id for v in views if not v.takes_work or (v.is_suspect and v.id not in used))


def kept_off(needs: Mapping[str, float], num_tasks: int = 1) -> tuple[str, ...]:
    """Nodes that new work keeps off for as long as it lives: the closed ones, and the suspect and slow ones where there
    is room for it without them now. Raises ClusterError while Ray does not tell its nodes."""
    return off_limits(gang("work", needs, num_tasks), node_views()) if suspected() else avoided()


def wait_for_room(
    job: Job, views: Callable[[], Sequence[NodeView]], clock: Clock, tell: Callable[[None, str], None]
) -> None:
    """Returns once the whole gang fits; until then `tell` has why it waits. Raises ClusterError after PATIENCE_S."""
    deadline, said = clock.monotonic() + PATIENCE_S, ""
    while isinstance(placed := _placed(job, views()), Held):
        if clock.monotonic() > deadline:
            raise ClusterError(
                f"no room for the whole gang within {PATIENCE_S:g} s: {placed.reason}",
                remedy="stop what holds it (`platformops status`), or add a node",
            )
        if placed.reason != said:
            said = placed.reason
            tell(None, f"waits for room: {said}")
        clock.sleep(LOOK_S)


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


def _placed(job: Job, views: Sequence[NodeView]) -> Placement | Held:
    plan = place([job], views, now=job.submitted_at)
    return plan.placements[0] if plan.placements else plan.held[0]
