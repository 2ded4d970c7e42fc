"""Attaches this process to the cluster, once, and says what the cluster has."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import ray
from ray._private.state import available_resources_per_node

from platformops.errors import ClusterError
from platformops.on_ray.tickets import Capacity

NAMESPACE = "platformops"
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
    """Connects to the cluster of RAY_ADDRESS unless already connected. Raises ClusterError."""
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        raise ClusterError("no cluster address", remedy="set RAY_ADDRESS, or let `platformops up` start a cluster")
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            runtime_env={"env_vars": _job_environment()},
        )
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise ClusterError(
            f"cannot join the Ray cluster at {address}: {error}",
            remedy="check that it runs, and that RAY_AUTH_TOKEN_PATH holds its token",
        ) from error


def nodes() -> tuple[NodeSlots, ...]:
    """Living nodes in the order of their ids."""
    free = available_resources_per_node()
    living = sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: str(n["NodeID"]))
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
    return {f"node:{ray.util.get_node_ip_address()}": SLIVER}


def capacities() -> list[Capacity]:
    """What the nodes have and what is free of it, for decisions about layout."""
    return [Capacity(n.cpus, n.gpus, n.free_cpus) for n in nodes()]


def _job_environment() -> dict[str, str]:
    """What workers need and do not inherit from the node that starts them."""
    names = ("PLATFORMOPS_HOME", "PLATFORMOPS_STORE", "PLATFORMOPS_ARTIFACTS", "PLATFORMOPS_DATA", "PYTHONPATH")
    return {name: os.environ[name] for name in names if os.environ.get(name)}
