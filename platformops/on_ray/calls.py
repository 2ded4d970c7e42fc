"""The gateway's call port: one call for many items, Ray's errors given our names.

Over Serve, with one handle a revision; through the replicas' own sockets once all of a revision are known to be on this
machine, as two hops of gRPC and Serve's router cost several times what a small model does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ray
from ray import serve
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from platformops.clock import Clock
from platformops.delivery.records import RevisionStatus
from platformops.gateway.call import Answer, Origin, ReplicaDied, RevisionUnavailable, RevisionUnknown
from platformops.gateway.channels import Channels, Told
from platformops.gateway.outages import Outages

OnCall = Callable[[str, Origin, int, float], None]
"""Told of revision, origin, items and seconds of each call that returned."""
MEETINGS_A_REPLICA = 4
"""Calls until all of a revision's replicas have most likely been met, whichever Serve chooses."""
MEETING_TIMEOUT_S = 30.0
MEETING_GAP_S = 0.05
DIED = (ray.exceptions.RayActorError, ray.exceptions.ActorUnavailableError, ReplicaUnavailableError)
REFUSED = (BackPressureError, DeploymentUnavailableError)


class ReplicaCalls:
    """Implements `Call`, `Ready` and `Width`. Calls come from one event loop, `observe` from any thread."""

    def __init__(self, clock: Clock, on_call: OnCall | None = None, *, node: str = "") -> None:
        """`node` is Ray's id of the one that this is on: replicas on others are reached over Serve."""
        self._clock, self._on_call, self._node = clock, on_call, node
        self._handles: dict[str, Any] = {}
        self._channels: dict[str, Channels] = {}
        self._ready: Mapping[str, int] = {}
        self._deployed_at: Mapping[str, float] = {}
        self._met: dict[str, tuple[float, int]] = {}
        """Revision -> when it was deployed and how many replicas it had when they were last met."""
        self._meetings: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outages = Outages()

    def begin(self) -> None:
        """To be called once, in the event loop that calls will come from."""
        self._loop = asyncio.get_running_loop()
        self._meet_new()

    @property
    def has_outage(self) -> bool:
        """Whether a revision has no replica, so that the next look should come soon."""
        return bool(self._outages)

    def observe(self, statuses: Mapping[str, RevisionStatus]) -> None:
        """What runs now; handles of revisions that are gone, or were stopped and deployed again, are dropped."""
        self._ready = {name: status.ready for name, status in statuses.items() if status.ready}
        self._outages.observe(self._ready, self._clock.monotonic())
        before, self._deployed_at = self._deployed_at, {name: s.deployed_at for name, s in statuses.items()}
        same = {name for name, at in self._deployed_at.items() if before.get(name, at) == at}
        for name in [name for name in self._handles if name not in same]:
            self._drop(name)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._meet_new)

    def ready(self, revision: str) -> int:
        return self._ready.get(revision, 0)

    def width(self, revision: str) -> int:
        return max(1, self.ready(revision))

    async def __call__(
        self, revision: str, items: Sequence[bytes], *, deadline: float, queued: int, traces: Sequence[str] = ()
    ) -> Sequence[Answer]:
        if revision in self._outages:
            raise RevisionUnavailable(revision)
        begin_s = self._clock.monotonic()
        try:
            origin, rows = await self._told(revision, items, queued, traces)
        except (*DIED, ReplicaDied) as error:
            if self.width(revision) == 1:  # nobody else could be asked
                self._outages.died(revision, self._clock.monotonic())
            raise ReplicaDied(revision) from error
        except REFUSED as error:
            raise RevisionUnavailable(revision) from error
        if self._on_call is not None:
            self._on_call(revision, origin, len(items), self._clock.monotonic() - begin_s)
        return [Answer(*row, origin.node, origin.stages_s) for row in rows]

    async def _told(self, revision: str, items: Sequence[bytes], queued: int, traces: Sequence[str]) -> Told:
        channels = self._channels.get(revision)
        channel = channels.next(self.ready(revision), self._clock.monotonic()) if channels is not None else None
        if channel is not None:
            try:
                return await channel.call(items, queued, traces)
            except ReplicaDied:
                if not channel.is_leaving:  # else it was on its way when the replica stopped listening
                    raise
        return await self._told_by_serve(revision, items, queued, traces)

    async def _told_by_serve(
        self, revision: str, items: Sequence[bytes], queued: int, traces: Sequence[str] = ()
    ) -> Told:
        handle: Any = self._handles.get(revision)
        if handle is None:
            made = await handle_of(revision)
            handle = self._handles.setdefault(revision, made)
            if handle is not made:  # two wanted the first one
                await made.shutdown_async()
        try:
            origin, rows = await handle.remote(list(items), queued, *([list(traces)] if traces else ()))
        except TypeError:  # a replica of before traces went that far
            if not traces:
                raise
            origin, rows = await handle.remote(list(items), queued)
        if origin.node == self._node:
            self._channels.setdefault(revision, Channels()).learn(origin.address)
        return origin, rows

    def _meet_new(self) -> None:
        """Revisions whose replicas have changed are met before their clients come, who need not wait for a handle."""
        for revision, ready in self._ready.items():
            state = (self._deployed_at.get(revision, 0.0), ready)
            if self._met.get(revision) != state and revision not in self._meetings:
                self._met[revision] = state
                task = asyncio.get_running_loop().create_task(self._meet(revision, ready))
                self._meetings[revision] = task
                task.add_done_callback(partial(self._meetings.pop, revision))
        self._met = {revision: state for revision, state in self._met.items() if revision in self._ready}

    async def _meet(self, revision: str, ready: int) -> None:
        """Serve is asked for nothing, until each replica has told of its address or one turns out to be elsewhere."""
        try:
            for _ in range(MEETINGS_A_REPLICA * ready):
                async with asyncio.timeout(MEETING_TIMEOUT_S):
                    origin, _ = await self._told_by_serve(revision, (), 0)
                if origin.node != self._node or not origin.address:
                    return
                await asyncio.sleep(MEETING_GAP_S)
                channels = self._channels.get(revision)
                if channels is None or channels.next(ready, self._clock.monotonic()) is not None:
                    return
        except (TimeoutError, RevisionUnknown, RayServeException, ray.exceptions.RayError):
            return  # clients meet them then

    def _drop(self, name: str) -> None:
        """A handle listens to Serve's controller until it is shut down, in the loop that it and the channels run in."""
        handle, channels = self._handles.pop(name, None), self._channels.pop(name, None)
        if self._loop is None or self._loop.is_closed():
            return
        if channels is not None:
            self._loop.call_soon_threadsafe(channels.close)
        if handle is not None:
            asyncio.run_coroutine_threadsafe(handle.shutdown_async(), self._loop)


async def handle_of(revision: str) -> Any:  # noqa: ANN401  Serve's DeploymentHandle, which is untyped
    """A handle whose calls run in this event loop. Raises RevisionUnknown."""
    return _short_way(await asyncio.to_thread(_find, revision))


def _short_way(handle: Any) -> Any:  # noqa: ANN401  Serve's DeploymentHandle, which is untyped
    """The handle with Serve's router in this event loop, and its calls by gRPC straight to the replica's own port.

    A lone call costs the gateway 1.3 ms of CPU instead of 2.6, and the replica 1.0 ms beside the model instead of 2.1.
    That port is there whether used or not, and asks for the cluster's token.
    """
    handle._init(_run_router_in_separate_loop=False)
    return handle.options(method_name="predict", _by_reference=False)


def _find(revision: str) -> Any:  # noqa: ANN401  Serve's DeploymentHandle, which is untyped
    """A handle of our own: Serve keeps the one it gives out, set up already, even when the revision comes anew."""
    try:
        kept = serve.get_app_handle(revision)
    except RayServeException as error:
        raise RevisionUnknown(revision) from error
    return DeploymentHandle(kept.deployment_name, revision)
