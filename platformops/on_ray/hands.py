"""What node health asks of Ray itself: its table of nodes, a task that starts a probe, and the end of a node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import ray
from ray._private.state import available_resources_per_node
from ray._private.state import state as ray_state

from platformops.clock import Clock
from platformops.errors import ClusterError
from platformops.health.crashes import Life
from platformops.health.nodes import Member
from platformops.on_ray import avoiding, gateway, sharing
from platformops.on_ray.gang_line import LineReader
from platformops.on_ray.gangs import GangReader, ask_for_checkpoint
from platformops.on_ray.probing import begin_probe
from platformops.on_ray.replica_lives import replica_lives
from platformops.on_ray.serving_pace import ServingPace
from platformops.on_ray.session import HEAD
from platformops.pipeline.modules import PLATFORM_ROOT
from platformops.scheduler.records import Team
from platformops.store.records import JsonObject

RPC_TIMEOUT_S = 10.0
DRILL_LABEL = "platformops/drill"
"""Of a node that is there to be broken on purpose."""
ENDED_WELL = {1, 3, 4}
"""Ray's reasons of a death that somebody wanted: stopped, and drained in two ways."""

Address = tuple[str, int]


class Hands(Protocol):
    """Each call may block for as long as Ray takes, and raises ClusterError when Ray does not do it."""

    def table(self) -> tuple[Sequence[Member], Mapping[str, Address]]:
        """Every node that Ray knows, and where the servers of the living ones are."""
        ...

    def waiting(self) -> Sequence[JsonObject]:
        """`{"name", "team", "since", "reason"}` of each gang that waits for room."""
        ...

    def serving(self) -> Mapping[str, Mapping[str, float]]:
        """Revision -> node -> median seconds of its calls since the last time; may wait for the gateway for long."""
        ...

    def lives(self) -> Sequence[Life]:
        """Of replicas: those that live, and those that Ray remembers."""
        ...

    def begin_probe(self, node: str, incarnation: int, key: bytes, controller: Address, server: Address) -> object:
        """Returns at once; `failure` takes what it returned."""
        ...

    def failure(self, begun: object) -> str:
        """Why that probe did not start; empty while it is under way, and when it did."""
        ...

    def unregister(self, node: str, reason: str) -> None: ...

    def drain(self, node: str, reason: str) -> None: ...

    def avoid(self, nodes: Sequence[str], suspects: Sequence[str], rates_per_s: Mapping[str, float]) -> None: ...

    def checkpoint(self, node: str, at: float) -> None: ...

    def share(self, teams: Mapping[str, Team]) -> None: ...


class RayHands:
    """Implements `Hands` on the cluster that this process is attached to."""

    def __init__(self, clock: Clock) -> None:
        self._gangs, self._line, self._pace = GangReader(clock), LineReader(clock), ServingPace()

    def table(self) -> tuple[Sequence[Member], Mapping[str, Address]]:
        try:
            nodes, free, draining = ray.nodes(), available_resources_per_node(), ray_state.get_draining_nodes()
            gangs = self._gangs.by_node()
            held_by = _held_by(draining) if draining else {}
        except (ray.exceptions.RayError, RuntimeError, TimeoutError) as error:
            raise ClusterError(f"Ray does not tell its nodes: {error}") from error
        home = ray.get_runtime_context().get_node_id()
        members = [_member(n, free.get(n["NodeID"], {}), n["NodeID"] in draining, n["NodeID"] == home) for n in nodes]
        members = [replace(m, gang=gangs.get(m.id), held_by=held_by.get(m.id, ())) for m in members]
        return members, {n["NodeID"]: (n["NodeManagerAddress"], n["NodeManagerPort"]) for n in nodes if n["Alive"]}

    def waiting(self) -> Sequence[JsonObject]:
        return [
            {"name": w.job.name, "team": w.job.team, "since": w.job.submitted_at, "reason": w.reason}
            for w in self._line.waiting()
        ]

    def serving(self) -> Mapping[str, Mapping[str, float]]:
        try:
            return self._pace.look(gateway.tallies())
        except (ray.exceptions.RayError, RuntimeError, TimeoutError) as error:
            raise ClusterError(f"Ray does not tell the gateway: {error}") from error

    def lives(self) -> Sequence[Life]:
        try:
            return replica_lives()
        except (ray.exceptions.RayError, RuntimeError, TimeoutError) as error:
            raise ClusterError(f"Ray does not tell its actors: {error}") from error

    def begin_probe(self, node: str, incarnation: int, key: bytes, controller: Address, server: Address) -> object:
        try:
            return begin_probe(node, incarnation, key, controller, server, str(PLATFORM_ROOT))
        except ray.exceptions.RayError as error:
            raise ClusterError(f"no probe can be started on {node[:8]}: {error}") from error

    def failure(self, begun: object) -> str:
        try:
            ray.get(begun, timeout=0)
        except ray.exceptions.GetTimeoutError:
            return ""
        except ray.exceptions.RayError as error:
            return str(error)
        return ""

    def unregister(self, node: str, reason: str) -> None:
        _unregister(node, reason)

    def drain(self, node: str, reason: str) -> None:
        _drain(node, reason)

    def avoid(self, nodes: Sequence[str], suspects: Sequence[str], rates_per_s: Mapping[str, float]) -> None:
        avoiding.avoid(nodes, suspects, rates_per_s)

    def checkpoint(self, node: str, at: float) -> None:
        ask_for_checkpoint(node, at)

    def share(self, teams: Mapping[str, Team]) -> None:
        sharing.share(teams)


def _member(node: Mapping[str, Any], free: Mapping[str, float], is_draining: bool, is_home: bool) -> Member:
    return Member(
        node["NodeID"],
        node["NodeManagerAddress"],
        node["Alive"],
        is_head=HEAD in node["Resources"],
        is_home=is_home,
        is_draining=is_draining,
        has_ended_well=not node["Alive"] and int(node.get("DeathReason", 0)) in ENDED_WELL,
        cpus=node["Resources"].get("CPU", 0.0),
        free_cpus=free.get("CPU", 0.0),
        drill=(node.get("Labels") or {}).get(DRILL_LABEL, ""),
    )


def _held_by(nodes: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """The classes of the actors that live on these nodes, one an actor."""
    found: dict[str, tuple[str, ...]] = {}
    for actor in ray_state.actor_table(None, actor_state_name="ALIVE").values():
        node = actor["Address"]["NodeID"]
        if node in nodes:
            found[node] = (*found.get(node, ()), actor["ActorClassName"])
    return found


def _unregister(node: str, reason: str) -> None:
    """Tells the GCS that the node is dead, which it would find out for itself in 13 to 65 s."""
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import common_pb2, gcs_service_pb2, gcs_service_pb2_grpc

    death = common_pb2.NodeDeathInfo(reason=common_pb2.NodeDeathInfo.UNEXPECTED_TERMINATION, reason_message=reason)
    request = gcs_service_pb2.UnregisterNodeRequest(node_id=bytes.fromhex(node), node_death_info=death)
    address = ray.get_runtime_context().gcs_address
    cluster = (("ray_cluster_id", ray._raylet.GcsClient(address=address).cluster_id.hex()),)
    channel = init_grpc_channel(address)
    try:
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        stub.UnregisterNode(request, timeout=RPC_TIMEOUT_S, metadata=cluster)
    finally:
        channel.close()


def _drain(node: str, reason: str) -> None:
    """Ray's own drain: nothing new is placed there, Serve and Train move away, and then the raylet ends."""
    from ray.core.generated import autoscaler_pb2

    preemption = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    client.drain_node(node, preemption, reason, 0)
