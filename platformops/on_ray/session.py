"""Attaches this process to the cluster, once, and says what the cluster has."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray._private import worker
from ray._private.state import available_resources_per_node

from platformops.clock import SystemClock
from platformops.errors import ClusterError
from platformops.on_ray.avoiding import avoided
from platformops.on_ray.tickets import Capacity

NAMESPACE = "platformops"
PATIENCE_S = 45.0
"""A head that was lost is back in a dozen seconds on a quiet machine."""
LOOK_S = 0.5
HEAD = "node:__internal_head__"
SLIVER = 0.001
"""Of the one unit of itself that each node has."""


@dataclass(frozen=True, slots=True)
class NodeSlots:
    """Logical resources of one living node, reserved ones included."""

    node_id: str
    address: str
    cpus: float
    gpus: float
    free_cpus: float
    """Not reserved at this moment."""


def attach() -> None:
    """Connects to the cluster of RAY_ADDRESS unless already connected. Raises ClusterError.

    A cluster that is being started again is waited for, and joined anew by a process that was connected before.
    """
    keep_stdout()
    if ray.is_initialized():
        if _is_joined():
            return
        ray.shutdown()
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        raise ClusterError("no cluster address", remedy="set RAY_ADDRESS, or let `platformops up` start a cluster")
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE_S
    while (problem := _problem_of_joining(address)) and clock.monotonic() < deadline:
        clock.sleep(LOOK_S)
    if problem:
        raise _cannot_join(address, problem)


def _cannot_join(address: str, problem: str) -> ClusterError:
    return ClusterError(
        f"cannot join the Ray cluster at {address}: {problem}",
        remedy="check that it runs, and that RAY_AUTH_TOKEN_PATH holds its token",
    )


def _problem_of_joining(address: str) -> str:
    """Empty when this process is connected on return. Raises ClusterError where waiting would not help."""
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            runtime_env={"env_vars": _job_environment()},
        )
    except ray.exceptions.AuthenticationError as error:
        raise _cannot_join(address, str(error)) from error
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        return str(error) or type(error).__name__
    return ""


def keep_stdout() -> None:
    """What a verb prints stays its own: Ray would put what befalls any node between its lines, whatever it is told.

    Ray's own logs have it.
    """
    worker.print_to_stdstream = _say_nothing


def _say_nothing(data: Mapping[str, object], ignore_prefix: bool) -> None:
    """Takes what Ray's listener of cluster errors would print."""


def _is_joined() -> bool:
    """Whether the node that this process joined is still one of the cluster's."""
    try:
        own = ray.get_runtime_context().get_node_id()
        return any(n["NodeID"] == own and n["Alive"] for n in ray.nodes())
    except (RuntimeError, ray.exceptions.RayError):
        return False


def nodes() -> tuple[NodeSlots, ...]:
    """Living nodes that take new work, in the order of their ids."""
    free, closed = available_resources_per_node(), avoided()
    living = sorted(
        (n for n in ray.nodes() if n["Alive"] and n["NodeID"] not in closed), key=lambda n: str(n["NodeID"])
    )
    return tuple(
        NodeSlots(
            node_id=n["NodeID"],
            address=n["NodeManagerAddress"],
            cpus=n["Resources"].get("CPU", 0.0),
            gpus=n["Resources"].get("GPU", 0.0),
            free_cpus=free.get(n["NodeID"], {}).get("CPU", 0.0),
        )
        for n in living
    )


def on_this_machine() -> dict[str, float]:
    """Resources that only this machine has, to place an actor where the home is.

    By its address rather than by the id of its node: a node that is started again has another id, and an actor that is
    bound to the old one would never come back.
    """
    own = ray.get_runtime_context().get_node_id()
    resources = next(n["Resources"] for n in ray.nodes() if n["NodeID"] == own)
    return {name: SLIVER for name in resources if name.startswith("node:") and name != HEAD}


def capacities(*, but: Sequence[str] = ()) -> list[Capacity]:
    """What the nodes have and what is free of it, for decisions about layout; some of them left out."""
    return [Capacity(n.cpus, n.gpus, n.free_cpus) for n in nodes() if n.node_id not in but]


def _job_environment() -> dict[str, str]:
    """What workers need and do not inherit from the node that starts them."""
    names = ("PLATFORMOPS_HOME", "PLATFORMOPS_STORE", "PLATFORMOPS_ARTIFACTS", "PLATFORMOPS_DATA", "PYTHONPATH")
    return {name: os.environ[name] for name in names if os.environ.get(name)}
