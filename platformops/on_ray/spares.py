"""A worker process in reserve, started and with everything imported, for when this one dies.

Starting a process and importing torch is four fifths of a recovery. Ray hands an idle process of the same job and
runtime environment to the next actor that wants one, and can be asked to start one beforehand.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import ray

if TYPE_CHECKING:
    import grpc

HOOK = {"__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "platformops.on_ray.spares.import_all"}
"""Environment of a training worker: Ray calls this function in a new process before it gives it work."""
KEPT_S = 6 * 3600
"""How long Ray keeps an idle one; the end of the job ends it sooner."""
ASK_TIMEOUT_S = 5.0
PYTHON = 0
WARM_AFTER_S = 10.0
SHORTEST_REST_S = 150.0
"""A spare costs about as many seconds of a core as it saves of waiting. With a failure in 600 s, as the checkpoints
expect, and of two cores, it pays from 300 s on; half of that, as what a failure costs people is more than seconds."""


def import_all() -> None:
    """Everything that a training worker imports; what is missing is told where it is needed."""
    with suppress(Exception):
        from platformops.on_ray import training_worker

        training_worker.import_all()


def ask_for_one() -> bool:
    """Has the raylet of this node start a process like this one, to be taken by whatever replaces it.

    False when the raylet does not: recovery is slower then, and right all the same.
    """
    from ray._private.grpc_utils import init_grpc_channel

    context = ray.get_runtime_context()
    node = next((n for n in ray.nodes() if n["NodeID"] == context.get_node_id()), None)
    if node is None:
        return False
    channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
    try:
        return _ask(channel, context.get_job_id(), context.get_runtime_env_string())
    finally:
        channel.close()


def _ask(channel: grpc.Channel, job_id: str, runtime_env: str) -> bool:
    import grpc
    from ray.core.generated import node_manager_pb2, node_manager_pb2_grpc
    from ray.core.generated.runtime_environment_pb2 import RuntimeEnvInfo

    request = node_manager_pb2.PrestartWorkersRequest(
        language=PYTHON,
        job_id=bytes.fromhex(job_id),
        runtime_env_info=RuntimeEnvInfo(serialized_runtime_env=runtime_env),
        keep_alive_duration_secs=KEPT_S,
        num_workers=1,
    )
    try:
        node_manager_pb2_grpc.NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=ASK_TIMEOUT_S)
    except grpc.RpcError:
        return False
    return True


def is_worth_it(elapsed_s: float, progress_ratio: float) -> bool:
    """Whether a training will go on for long enough to pay for a spare: its imports take seconds of a core, which a
    short training would feel."""
    if elapsed_s < WARM_AFTER_S:
        return False
    return elapsed_s * (1.0 - progress_ratio) >= SHORTEST_REST_S * max(progress_ratio, 1e-9)
