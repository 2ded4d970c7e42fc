"""The gateway's call port over Serve: one handle a revision, one call for many items, Ray's errors given our names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import serve
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)

from platformops.delivery.records import RevisionStatus
from platformops.gateway.call import Answer, ReplicaDied, RevisionUnavailable, RevisionUnknown

DIED = (ray.exceptions.RayActorError, ray.exceptions.ActorUnavailableError, ReplicaUnavailableError)
REFUSED = (BackPressureError, DeploymentUnavailableError)


class ReplicaCalls:
    """Implements `Call` and `Width` of the gateway. Calls come from one event loop, `observe` from any thread."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}
        self._ready: Mapping[str, int] = {}

    def observe(self, statuses: Mapping[str, RevisionStatus]) -> None:
        """What runs now: handles of revisions that are gone are dropped, those of new ones are made ready."""
        self._ready = {name: status.ready for name, status in statuses.items() if status.ready}
        handles = {name: handle for name, handle in self._handles.items() if name in statuses}
        for name in self._ready.keys() - handles.keys():
            handles[name] = serve.get_app_handle(name)
        self._handles = handles

    def width(self, revision: str) -> int:
        return max(1, self._ready.get(revision, 1))

    async def __call__(
        self, revision: str, items: Sequence[bytes], *, deadline: float, queued: int
    ) -> Sequence[Answer]:
        handle: Any = self._handles.get(revision)
        if handle is None:
            handle = await asyncio.to_thread(_find, revision)
        try:
            answers = await handle.predict.remote(list(items), queued)
        except DIED as error:
            raise ReplicaDied(revision) from error
        except REFUSED as error:
            raise RevisionUnavailable(revision) from error
        return [Answer(*answer) for answer in answers]


def _find(revision: str) -> Any:  # noqa: ANN401  Serve's DeploymentHandle, which is untyped
    try:
        return serve.get_app_handle(revision)
    except RayServeException as error:
        raise RevisionUnknown(revision) from error
