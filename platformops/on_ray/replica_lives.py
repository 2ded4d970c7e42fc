"""The lives of replicas, those that ended included, from Ray's table of actors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ray._private.state import state
from ray.core.generated import common_pb2

from platformops.health.crashes import Life

OURS = re.compile(r"ServeReplica:(?P<revision>[a-z0-9][a-z0-9._-]{0,62}-r[0-9]+):")
"""How Serve names the class of its replicas' actors."""
CRASHED = common_pb2.ActorDiedErrorContext.Reason.Value("WORKER_DIED")
"""The process ended; Ray has other reasons for what it was asked to end, and for a node that died."""


def replica_lives() -> Sequence[Life]:
    """Of those that have been placed on a node; Ray forgets the oldest of a hundred thousand dead ones."""
    found = [_life(actor) for actor in state.actor_table(None).values()]
    return [life for life in found if life is not None]


def _life(actor: Mapping[str, Any]) -> Life | None:
    match, node = OURS.match(actor["ActorClassName"]), actor["Address"]["NodeID"]
    if match is None or not actor["StartTime"] or not node.strip("f"):
        return None
    is_dead = actor["State"] == "DEAD"
    ended = actor["EndTime"] / 1000 if is_dead else None
    has_crashed = is_dead and _is_crash(actor["DeathCause"])
    return Life(match["revision"], node, actor["StartTime"] / 1000, ended, has_crashed, actor["Pid"])


def _is_crash(cause: Any) -> bool:  # noqa: ANN401  a protobuf message, which is untyped
    """Also what Ray ended for want of memory: if a node is short of it, its replicas of every version are."""
    return bool(cause.HasField("oom_context") or cause.actor_died_error_context.reason == CRASHED)
