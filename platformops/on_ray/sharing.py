"""What each team may use, told to every process of the cluster that waits for room."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ray.experimental import internal_kv

from platformops.scheduler.records import Team
from platformops.scheduler.teams import team_from, team_json

KEY, NAMESPACE = b"platformops/teams", b"platformops"


def share(teams: Mapping[str, Team]) -> None:
    """From now on; what runs already goes on."""
    value = json.dumps([team_json(team) for team in teams.values()]).encode()
    internal_kv._internal_kv_put(KEY, value, overwrite=True, namespace=NAMESPACE)


def teams() -> Mapping[str, Team]:
    """By name; none where nobody has said so, and for a process that is attached to no cluster."""
    if not internal_kv._internal_kv_initialized():
        return {}
    said = internal_kv._internal_kv_get(KEY, namespace=NAMESPACE)
    found = [team_from(value) for value in json.loads(said)] if said else []
    return {team.name: team for team in found}
