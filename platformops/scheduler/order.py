"""In which order jobs are tried: priority that grows with waiting, then fair share, then who came first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from platformops.scheduler.records import Job, Resources, Running, Team

AGING_S = 1800.0
"""A wait of this long is worth one step of priority, so that nothing starves behind a stream of urgent work."""
MOST_AGED = 2.0
"""Waiting lifts a batch job over training and up to serving, never over repair."""


def ranked(
    jobs: Iterable[Job], running: Iterable[Running], teams: Mapping[str, Team], capacity: Resources, now: float
) -> list[Job]:
    """The jobs, first to be tried first; the same for any order of the input."""
    shares = dominant_shares(running, teams, capacity)
    return sorted(jobs, key=lambda j: (-effective_priority(j, now), shares.get(j.team, 0.0), j.submitted_at, j.name))


def effective_priority(job: Job, now: float) -> float:
    """Whole steps: two jobs of about the same wait are ordered by fair share, not by seconds.

    Aging against starvation: Silberschatz et al., Operating System Concepts, section 5.3.4.
    """
    waited_s = max(0.0, now - job.submitted_at)
    return float(job.priority) + min(waited_s // AGING_S, MOST_AGED)


def dominant_shares(running: Iterable[Running], teams: Mapping[str, Team], capacity: Resources) -> Mapping[str, float]:
    """Each team's largest share of any resource over its weight: Dominant Resource Fairness (Ghodsi et al., NSDI
    2011, section 4.3). The team that has least by this measure is served next."""
    used = used_by_team(running)
    return {
        team: max((amount / capacity[r] for r, amount in uses.items() if capacity.get(r)), default=0.0)
        / teams.get(team, Team(team)).share
        for team, uses in used.items()
    }


def used_by_team(running: Iterable[Running]) -> Mapping[str, Resources]:
    used: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for one in running:
        for resource, amount in one.uses.items():
            used[one.team][resource] += amount
    return used


def over_quota(job: Job, team: Team, uses: Resources) -> str:
    """Why the job does not fit into its team's quota; empty if it does."""
    for resource, limit in sorted(team.quota.items()):
        wanted = uses.get(resource, 0.0) + job.num_tasks * job.needs.get(resource, 0.0)
        if job.needs.get(resource, 0.0) > 0.0 and wanted > limit + 1e-9:
            return f"quota of {team.name}: {wanted:g} {resource} of {limit:g} with this job"
    return ""
