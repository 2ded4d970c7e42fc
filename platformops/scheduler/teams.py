"""What each team may use of the cluster, as people set it and as it is kept."""

from __future__ import annotations

from collections.abc import Mapping

from platformops.scheduler.records import Resources, Team
from platformops.store.records import JsonObject

TEAMS = "team/"


def team_json(team: Team) -> JsonObject:
    return {"name": team.name, "share": team.share, "quota": dict(team.quota)}


def team_from(value: Mapping[str, object]) -> Team:
    """As `team_json` wrote it."""
    quota = value["quota"]
    assert isinstance(quota, Mapping)
    return Team(str(value["name"]), float(str(value["share"])), {str(r): float(n) for r, n in quota.items()})


def changed(team: Team, *, share: float | None, limits: Mapping[str, float | None]) -> Team:
    """The team with another share, where one is given, and with those limits; None takes a limit away."""
    merged = {**team.quota, **limits}
    quota: Resources = {resource: limit for resource, limit in sorted(merged.items()) if limit is not None}
    return Team(team.name, team.share if share is None else share, quota)
