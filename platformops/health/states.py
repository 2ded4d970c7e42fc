"""The life of a node as the platform sees it: states, what moves them, and the one table of legal moves."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class NodeState(Enum):
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """Watched more closely; takes new work only where there is no better place."""
    UNHEALTHY = "unhealthy"
    """A remedy is due, by expected cost."""
    DEAD = "dead"
    PROBATION = "probation"
    """Back or repaired: it proves itself by a burn-in before it gets work."""
    BARRED = "barred"
    """It came back too often: only a person returns it."""


class NodeEvent(Enum):
    SUSPECTED = "suspected"
    CONDEMNED = "condemned"
    CALMED = "calmed"
    DIED = "died"
    RETURNED = "returned"
    PASSED = "passed"
    BARRED = "barred"
    PARDONED = "pardoned"


S, E = NodeState, NodeEvent

NODE: Mapping[tuple[NodeState, NodeEvent], NodeState] = {
    (S.HEALTHY, E.SUSPECTED): S.SUSPECT,
    (S.HEALTHY, E.CONDEMNED): S.UNHEALTHY,
    (S.HEALTHY, E.DIED): S.DEAD,
    (S.SUSPECT, E.CALMED): S.HEALTHY,
    (S.SUSPECT, E.CONDEMNED): S.UNHEALTHY,
    (S.SUSPECT, E.DIED): S.DEAD,
    (S.UNHEALTHY, E.CALMED): S.PROBATION,
    (S.UNHEALTHY, E.BARRED): S.BARRED,
    (S.UNHEALTHY, E.DIED): S.DEAD,
    (S.DEAD, E.RETURNED): S.PROBATION,
    (S.DEAD, E.BARRED): S.BARRED,
    (S.PROBATION, E.PASSED): S.HEALTHY,
    (S.PROBATION, E.CONDEMNED): S.UNHEALTHY,
    (S.PROBATION, E.DIED): S.DEAD,
    (S.BARRED, E.PARDONED): S.PROBATION,
}
