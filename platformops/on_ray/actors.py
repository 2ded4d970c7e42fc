"""The platform's two named actors, controller and gateway: found, asked within a deadline, and ended."""

from __future__ import annotations

from typing import Any

import ray

from platformops.errors import ClusterError, PlatformError
from platformops.on_ray.session import NAMESPACE

STOP_TIMEOUT_S = 20.0


def running(name: str) -> Any | None:  # noqa: ANN401  a Ray actor handle, which is untyped
    """The handle of the actor; None when there is none."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def ask(name: str, reference: Any, timeout_s: float) -> Any:  # noqa: ANN401  Ray's object references are untyped
    """The answer; what the actor raised, or ClusterError when it does not answer in time."""
    try:
        return ray.get(reference, timeout=timeout_s)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, PlatformError) else ClusterError(str(error)) from error
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise ClusterError(f"{name} does not answer: {error}", remedy="look at `ray list actors`") from error


def stop(name: str) -> bool:
    """The actor's `stop` has returned and its process is gone; False when there was none."""
    actor = running(name)
    if actor is None:
        return False
    try:
        ask(name, actor.stop.remote(), STOP_TIMEOUT_S)
    finally:
        ray.kill(actor, no_restart=True)
    return True
