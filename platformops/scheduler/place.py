"""Puts jobs on nodes: gangs all or nothing, away from sick nodes, and every job that waits says why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from platformops.scheduler.order import over_quota, ranked, used_by_team
from platformops.scheduler.records import Held, Job, NodeView, Placement, Plan, Resources, Running, Team

BACKFILL_S = 900.0
"""A gang that has waited so long keeps its nodes free: smaller jobs behind it may no longer slip in before it."""


@dataclass(slots=True)
class _Room:
    """A node and what is still free on it while a plan is made."""

    view: NodeView
    free: dict[str, float]

    def count(self, job: Job) -> int:
        """Tasks of the job that fit."""
        fits = [math.floor((self.free.get(r, 0.0) + 1e-9) / amount) for r, amount in job.needs.items() if amount > 0.0]
        room = min(fits, default=job.num_tasks)
        return min(room, 1) if job.spread else room

    def take(self, needs: Resources, num_tasks: int) -> None:
        for resource, amount in needs.items():
            self.free[resource] = self.free.get(resource, 0.0) - num_tasks * amount


def place(
    jobs: Iterable[Job],
    nodes: Iterable[NodeView],
    *,
    running: Iterable[Running] = (),
    teams: Mapping[str, Team] | None = None,
    now: float,
) -> Plan:
    """Placements and held jobs. Pure: the same snapshot gives the same plan, in any order of its parts.

    Shares and quotas count what this plan itself has placed.
    """
    known = teams or {}
    rooms = [_Room(view, dict(view.free)) for view in sorted(nodes, key=lambda n: n.id)]
    uses = list(running)
    capacity = _capacity(rooms, uses)
    waiting, placements, held = list(jobs), list[Placement](), list[Held]()
    while waiting:
        job = ranked(waiting, uses, known, capacity, now)[0]
        waiting.remove(job)
        found = _try(job, rooms, known.get(job.team, Team(job.team)), uses)
        if isinstance(found, Held):
            held.append(found)
            if _must_reserve(job, found, now):
                _reserve(job, rooms)
            continue
        placements.append(found)
        uses.append(Running(job.team, job.uses))
    return Plan(tuple(placements), tuple(held))


def _try(job: Job, rooms: list[_Room], team: Team, uses: list[Running]) -> Placement | Held:
    refused = over_quota(job, team, used_by_team(uses).get(job.team, {}))
    if refused:
        return Held(job.name, refused)
    usable = [room for room in rooms if room.view.takes_work and room.view.id not in job.avoid]
    ordered = sorted(usable, key=lambda room: _preference(room, job))
    chosen: list[tuple[_Room, int]] = []
    missing = job.num_tasks
    for room in ordered:
        here = min(room.count(job), missing)
        if here:
            chosen.append((room, here))
            missing -= here
    if missing:
        return Held(job.name, _why(job, rooms, job.num_tasks - missing))
    for room, here in chosen:
        room.take(job.needs, here)
    names = tuple(room.view.id for room, here in chosen for _ in range(here))
    return Placement(job.name, names, _said(job, [room.view for room, _ in chosen]))


def _preference(room: _Room, job: Job) -> tuple[bool, int, int, str]:
    """Sound nodes first; among them, by order of magnitude, those that fail least; then the fullest that fits.

    Best fit keeps whole nodes free for gangs. Hazards are compared in steps of a factor of two, since smaller
    differences are noise and would undo the packing.
    """
    view = room.view
    hazard = round(math.log2(view.hazard_per_s)) if view.hazard_per_s > 0.0 else -1_000
    fits = room.count(job)
    return view.is_suspect, hazard, fits if fits else 1_000_000, view.id


def _why(job: Job, rooms: list[_Room], fitting: int) -> str:
    wanted = ", ".join(f"{amount:g} {resource}" for resource, amount in sorted(job.needs.items())) or "no resources"
    size = f"{job.num_tasks} tasks of {wanted}" if job.num_tasks > 1 else wanted
    parts = [f"{size}: room for {fitting} of {job.num_tasks}" if job.num_tasks > 1 else f"{size}: no node has room"]
    closed = [room.view for room in rooms if not room.view.takes_work]
    if closed:
        reasons = sorted({view.why_not or "takes no work" for view in closed})
        parts.append(f"{len(closed)} of {len(rooms)} nodes take no work ({'; '.join(reasons)})")
    avoided = sorted(job.avoid & {room.view.id for room in rooms})
    if avoided:
        parts.append(f"it failed before on {', '.join(avoided)}")
    return "; ".join(parts)


def _said(job: Job, views: list[NodeView]) -> str:
    expected = sum(view.hazard_per_s for view in views) * job.runs_s
    suspects = sum(view.is_suspect for view in views)
    doubt = f", {suspects} of them suspect for want of better" if suspects else ""
    return f"{len(views)} node{'s' * (len(views) != 1)}{doubt}; {expected:.2g} failures expected in {job.runs_s:g} s"


def _must_reserve(job: Job, held: Held, now: float) -> bool:
    return not held.reason.startswith("quota") and now - job.submitted_at >= BACKFILL_S


def _reserve(job: Job, rooms: list[_Room]) -> None:
    """Takes what the waiting gang could use from what later jobs see: head-of-line blocking, on purpose and late."""
    missing = job.num_tasks
    for room in sorted(rooms, key=lambda r: _preference(r, job)):
        if not room.view.takes_work or room.view.id in job.avoid:
            continue
        here = min(room.count(job), missing)
        room.take(job.needs, here)
        missing -= here


def _capacity(rooms: list[_Room], uses: list[Running]) -> Resources:
    total: dict[str, float] = {}
    for part in [*(room.free for room in rooms), *(one.uses for one in uses)]:
        for resource, amount in part.items():
            total[resource] = total.get(resource, 0.0) + amount
    return total
