"""What the probes say: whether the gateway has started, lives and takes traffic, and whether a system is ready.

Startup: systems and keys have been read once; until then nobody may be let in. Liveness: the event loop answers, so
restarting would help nobody. Readiness: started and not about to stop. A system whose replicas are all gone makes the
gateway no less ready for the others: that is asked of the system itself, with a key.
"""

from __future__ import annotations

import json
from enum import Enum

from platformops.delivery.records import Route
from platformops.gateway.call import Ready
from platformops.gateway.replies import RETRY_SOON, Refused, Reply


class Phase(Enum):
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


def phase_of(*, is_world_read: bool, is_draining: bool) -> Phase:
    if is_draining:
        return Phase.DRAINING
    return Phase.SERVING if is_world_read else Phase.STARTING


def liveness() -> Reply:
    return _ok("ok")


def startup(phase: Phase) -> Reply:
    """Raises Refused (503) until systems and keys have been read."""
    if phase is Phase.STARTING:
        raise Refused(503, "starting", "systems and keys have not been read yet", headers=RETRY_SOON)
    return _ok("started")


def readiness(phase: Phase) -> Reply:
    """Raises Refused (503) while nothing new should be sent here."""
    startup(phase)
    if phase is Phase.DRAINING:
        raise Refused(503, "draining", "this gateway is about to stop", headers=RETRY_SOON)
    return _ok("ready")


def system_readiness(route: Route | None, ready: Ready) -> Reply:
    """Replicas by revision; raises Refused (503) unless each revision that gets traffic has one that takes calls."""
    if route is None:
        raise Refused(503, "not_ready", "this system has no revision that takes traffic yet", headers=RETRY_SOON)
    replicas = {revision: ready(revision) for revision, weight in route.weights.items() if weight > 0}
    if not all(replicas.values()):
        raise Refused(503, "not_ready", "a revision of this system has no replica that takes calls", headers=RETRY_SOON)
    return Reply(200, json.dumps({"status": "ready", "replicas": replicas}).encode("ascii"))


def _ok(status: str) -> Reply:
    return Reply(200, json.dumps({"status": status}).encode("ascii"))
