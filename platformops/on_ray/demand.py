"""Refuses what a cluster can never place, with the figures, before anything runs.

Ray itself would wait for such demands for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from platformops.errors import ClusterError
from platformops.on_ray.layout import training_slots
from platformops.on_ray.tickets import Capacity
from platformops.spec.types import PlatformSpec, ServeSpec


def check_demand(spec: PlatformSpec, nodes: Sequence[Capacity], *, is_served: bool) -> None:
    """Raises ClusterError when `spec` asks for more workers, GPUs or (where `is_served`) replicas than `nodes` hold."""
    if spec.app is None:
        return
    training_slots(nodes, workers=spec.train.workers, devices=spec.train.devices)
    if is_served:
        _check_replicas(spec.serve, nodes)


def _check_replicas(serve: ServeSpec, nodes: Sequence[Capacity]) -> None:
    wanted, cpus = serve.replicas[0], serve.cpus
    slots = sum(int(node.cpus / cpus + 1e-9) for node in nodes) if cpus else wanted
    if wanted > slots:
        total, largest = sum(n.cpus for n in nodes), max((n.cpus for n in nodes), default=0.0)
        raise ClusterError(
            f"serve.replicas wants at least {wanted} of {cpus:g} CPUs each, and the cluster has room for {slots}: "
            f"{total:g} CPUs on {len(nodes)} node(s), {largest:g} on the largest",
            remedy="lower serve.replicas or serve.cpus, or add a node",
        )


def nodes_of(address: str) -> list[Capacity]:
    """What the living nodes at `address` have, asked of the head without joining. Raises ClusterError."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled, without stubs
    from ray.core.generated.gcs_pb2 import GcsNodeInfo
    from ray.exceptions import RayError

    try:
        infos = GcsClient(address=address).get_all_node_info(timeout=10.0).values()
    except (RayError, ConnectionError) as error:
        raise ClusterError(f"the cluster at {address} does not say what it has: {error}") from error
    alive = [info for info in infos if info.state == GcsNodeInfo.GcsNodeState.ALIVE]
    totals = [dict(info.resources_total) for info in alive]
    return [Capacity(t.get("CPU", 0.0), t.get("GPU", 0.0), t.get("CPU", 0.0)) for t in totals]
