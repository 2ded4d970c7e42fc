"""Revisions on Ray Serve: one application each, so that a crash in a candidate cannot touch what is stable.

An application is deployed once and never updated in place, since Serve's update has no way back. Serve's own HTTP
proxy stays off: the gateway is the only door.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from platformops.delivery.documents import revision_json
from platformops.delivery.records import Revision, RevisionState, RevisionStatus
from platformops.errors import ClusterError
from platformops.gateway.served import limits_of
from platformops.home import Home
from platformops.on_ray.avoiding import selector
from platformops.on_ray.gang_places import kept_off
from platformops.on_ray.rehearsal import Probed
from platformops.on_ray.replica_process import ReplicaProcess
from platformops.spec.types import ServeSpec

REPLICA = "replica"
"""Name of the one Serve deployment in each application."""
OURS = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}-r[0-9]+")
CALLS_PER_REPLICA = 2
"""A gateway has as many calls in flight as there are replicas; room for a second one keeps a retry from waiting."""
HEALTH_PERIOD_S = 1.0
"""A replica that died is missed at the next check."""
HEALTH_TIMEOUT_S = 10.0
"""Serve replaces a silent replica after three of these, and no healthy one on a machine that is merely busy. One that a
signal holds still is seen sooner, by the keeper, in what the kernel says of it."""
ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
"""Serve's loop calls ours directly: predictions run in a thread of their own anyway, so a second loop only costs."""
SCALE_UP_DELAY_S = 3.0
SCALE_DOWN_DELAY_S = 60.0
FULL_SHARE = 0.5
"""Of a batch: with more than that in flight for each replica, another one shortens the wait."""
PROBE_TIMEOUT_S = 20.0
Seen = Mapping[str, Any]
"""One application, as `ray.serve.schema.ApplicationDetails` has its fields."""
FAILED = {"DEPLOY_FAILED", "UNHEALTHY"}
DELETING = "DELETING"


def start_serve() -> None:
    """Serve runs on this cluster afterwards, without an HTTP proxy of its own; idempotent."""
    serve.start(proxy_location="Disabled", logging_config=_quiet())


def application(revision: Revision, home: Home) -> serve.Application:
    """The Serve application of a revision."""
    limits = limits_of(revision.options)
    low, high = revision.replicas_min, revision.replicas_max
    options: dict[str, Any] = {
        "name": REPLICA,
        "ray_actor_options": {
            "num_cpus": limits.cpus,
            "runtime_env": {"env_vars": ONE_LOOP},
            **_kept_off(limits.cpus, high),
        },
        "max_ongoing_requests": CALLS_PER_REPLICA,
        "health_check_period_s": HEALTH_PERIOD_S,
        "health_check_timeout_s": HEALTH_TIMEOUT_S,
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": limits.timeout_s,
        "logging_config": _quiet(),
    }
    if low == high:
        options["num_replicas"] = low
    else:
        options["autoscaling_config"] = _autoscaling(low, high, limits)
    deployment = serve.deployment(**options)(ReplicaProcess)
    bound: serve.Application = deployment.bind(revision_json(revision), home.artifacts_url, str(home.cache))
    return bound


def _kept_off(cpus: float, replicas: int) -> dict[str, Any]:
    """Nodes that take no new work when the revision is deployed are none of its replicas', for as long as it lives; nor
    are those that are slow or suspect then, as long as all of its replicas have room elsewhere."""
    closed = kept_off({"CPU": cpus}, replicas)
    return {"label_selector": selector(closed)} if closed else {}


def _autoscaling(low: int, high: int, limits: ServeSpec) -> dict[str, Any]:
    return {
        "min_replicas": low,
        "max_replicas": high,
        "target_ongoing_requests": max(1.0, FULL_SHARE * limits.batch),
        "upscale_delay_s": SCALE_UP_DELAY_S,
        "downscale_delay_s": SCALE_DOWN_DELAY_S,
        "metrics_interval_s": 1.0,
        "look_back_period_s": 5.0,
        "policy": {"policy_function": "platformops.on_ray.autoscaling:by_items"},
    }


def _quiet() -> LoggingConfig:
    """Requests are logged once, by the gateway."""
    return LoggingConfig(enable_access_log=False, log_level="WARNING")


def deploy_revision(revision: Revision, home: Home) -> None:
    """Starts the revision and returns at once; one that runs or starts is left alone, one that failed starts afresh.

    Raises ClusterError while an earlier one of this name is being stopped: Serve would take the request and end both.
    """
    seen = _applications().get(revision.name)
    if seen is not None and seen["status"] == DELETING:
        raise ClusterError(f"{revision.name} is still being stopped", remedy="ask again once it is gone")
    if seen is not None and _status(seen).state is not RevisionState.FAILED:
        return
    start_serve()
    target = serve.RunTarget(target=application(revision, home), name=revision.name, route_prefix=None)
    try:
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    except (RayServeException, ray.exceptions.RayError) as error:
        raise ClusterError(f"{revision.name} could not be handed to Serve: {error}") from error


def remove_revision(name: str) -> None:
    """Serve stops the application once it has answered what it accepted; returns at once, also when there is none."""
    if name in _applications():
        serve.delete(name, _blocking=False)


def revision_statuses() -> Mapping[str, RevisionStatus]:
    """Every revision that runs, starts or failed, by name."""
    return {
        name: _status(seen)
        for name, seen in _applications().items()
        if OURS.fullmatch(name) and seen["status"] != DELETING
    }


def revision_status(name: str) -> RevisionStatus:
    return revision_statuses().get(name, RevisionStatus(RevisionState.ABSENT))


def probed(name: str, items: Sequence[bytes]) -> Probed:
    """What one replica of a revision says of itself and makes of `items`. Raises ClusterError when none does."""
    try:
        asked = serve.get_app_handle(name).options(method_name="probe").remote(list(items))
        told, resident_bytes, digests = asked.result(timeout_s=PROBE_TIMEOUT_S)
    except (RayServeException, ray.exceptions.RayError, TimeoutError) as error:
        raise ClusterError(f"{name} does not answer: {error}", remedy="look at `ray status`") from error
    return Probed(told, resident_bytes, tuple(digests))


def _applications() -> Mapping[str, Seen]:
    """As Serve's controller tells them. `serve.status()` says the same and checks it against its models, for which it
    pickles classes: too much for a gateway that asks each second."""
    try:
        client = _get_global_client(raise_if_no_controller_running=False)
        return dict(client.get_serve_details()["applications"]) if client is not None else {}
    except RayServeException:  # Serve has not been started on this cluster
        return {}
    except ray.exceptions.RayError as error:
        raise ClusterError(f"Serve does not answer: {error}", remedy="look at `ray status`") from error


def _status(seen: Seen) -> RevisionStatus:
    deployments = list(seen["deployments"].values())
    states = [replica["state"] for deployment in deployments for replica in deployment["replicas"]]
    ready = sum(state == "RUNNING" for state in states)
    wanted = sum(state != "STOPPING" for state in states)
    messages = [d["message"] for d in deployments if d["message"]] or [seen["message"]]
    return RevisionStatus(
        state=_state(seen, ready),
        ready=ready,
        wanted=wanted,
        reason=_reason(messages[0]),
        deployed_at=seen["last_deployed_time_s"],
    )


def _state(seen: Seen, ready: int) -> RevisionState:
    """A revision with any replica takes requests, whatever Serve thinks of the missing ones."""
    if ready:
        return RevisionState.READY
    return RevisionState.FAILED if seen["status"] in FAILED else RevisionState.STARTING


def _reason(message: str) -> str:
    """The last line of a traceback is what a person needs; the rest is in Ray's logs."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Corrupt|Refused|Failed)\b", line)]
    return (errors or lines or [""])[-1][:500]
