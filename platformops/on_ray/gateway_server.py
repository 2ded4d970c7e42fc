"""What serves in the gateway's actor: an HTTP server thread, a thread that reads the store each second, no state."""

from __future__ import annotations

import contextlib
import gc
import secrets
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import ray
import uvloop
from ray.serve.exceptions import RayServeException

from platformops.clock import SystemClock
from platformops.delivery.evidence import Tallies
from platformops.delivery.records import Route
from platformops.delivery.retraining import load_recipes
from platformops.delivery.systems import load_systems
from platformops.errors import PlatformError
from platformops.gateway import router
from platformops.gateway.access_log import AccessLog
from platformops.gateway.app import Gateway
from platformops.gateway.call import Origin
from platformops.gateway.inputs import Inputs
from platformops.gateway.served import renew
from platformops.gateway.server import HttpServer
from platformops.keeper import doors
from platformops.on_ray.calls import ReplicaCalls
from platformops.on_ray.gateway import CALL_TIMEOUT_S, Settings
from platformops.on_ray.metrics import platform_readings
from platformops.on_ray.serving import revision_statuses
from platformops.security.keys import STORED_UNDER
from platformops.store.open import open_store

if TYPE_CHECKING:
    from platformops.gateway.tracing import Tracing

REFRESH_S = OFFER_S = 1.0
OUTAGE_REFRESH_S = 0.2
"""While a revision has no replica: the moment in which it has one again is waited for."""
READ_EVERY_S = 5.0
LOG_FILE = "gateway.jsonl"


class GatewayServer:
    """Threads around one `Gateway`: one answers on `bound`, one reads the store, one offers `bound` to the keeper."""

    def __init__(self, settings: Settings, bound: socket.socket) -> None:
        self._bound, self._root = bound, settings.home.root
        self._clock = SystemClock()
        self._read_at = float("-inf")
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._store = open_store(settings.home.store_url)
        self._calls = ReplicaCalls(self._clock, self._on_call, node=ray.get_runtime_context().get_node_id())
        self._log = AccessLog(settings.home.logs / LOG_FILE)
        self._inputs = Inputs(settings.home.inputs)
        self._tracing = _tracing(settings)
        self._gateway = Gateway(
            call=self._calls,
            width=self._calls.width,
            ready=self._calls.ready,
            clock=self._clock,
            new_id=new_request_id,
            policy=settings.policy,
            observers=(self._log, *([self._tracing] if self._tracing else [])),
            store=self._store,
            inputs=self._inputs,
            is_traced=self._tracing.wants if self._tracing else None,
        )
        self._server = HttpServer(self._gateway, limits=settings.limits, new_id=new_request_id, shed=self._gateway.shed)
        self.refresh()
        # What is loaded stays: collections need not look through it for as long as the gateway lives.
        gc.collect()
        gc.freeze()
        self._serving = threading.Thread(target=self._serve, name="http", daemon=True)
        self._refreshing = threading.Thread(target=self._refresh_always, name="refresh", daemon=True)
        self._offering = threading.Thread(target=self._offer_always, name="door", daemon=True)
        self._offering.start()
        self._serving.start()
        self._refreshing.start()

    def refresh(self) -> None:
        """Systems, routes, keys and replicas as they are now; what cannot be read now stays as it was."""
        # With the store away, or a bad record in it, serving goes on with the last world.
        with contextlib.suppress(PlatformError):
            systems = [system for system, _ in load_systems(self._store).values()]
            keys = self._store.scan(STORED_UNDER)
            with self._lock:
                self._gateway.world = renew(self._gateway.world, systems, keys)
            recipes = load_recipes(self._store)
            self._inputs.systems = frozenset(name for name, recipe in recipes.items() if recipe.retrain)
        # With Serve's controller away, replicas and handles go on working without it.
        with contextlib.suppress(PlatformError, RayServeException, ray.exceptions.RayError):
            statuses = revision_statuses()
            self._calls.observe(statuses)
            self._gateway.book.keep_only(statuses)

    def tallies(self) -> Tallies:
        """What was counted of every revision since this process started."""
        return self._gateway.book.tallies()

    def _on_call(self, revision: str, origin: Origin, items: int, seconds: float) -> None:
        self._gateway.book.sampled(revision, origin.node, origin.replica, origin.resident_bytes)
        self._gateway.metrics.called(
            revision, origin.node, items=items, seconds=seconds, stages_s=origin.stages_s, cpu_s=origin.cpu_s
        )  # fmt: skip

    def _read_platform(self) -> None:
        """What the store says, for whoever scrapes; at most every READ_EVERY_S, as it reads many records."""
        now = self._clock.monotonic()
        if now - self._read_at < READ_EVERY_S:
            return
        self._read_at = now
        self._gateway.metrics.tell(platform_readings(self._store, self._clock))

    def set_route(self, route: Route) -> None:
        """The route is in force on return. Raises StoreConflict when a newer one is."""
        with self._lock:
            world = self._gateway.world
            self._gateway.world = replace(world, routes=router.replace(world.routes, route))

    def tokens(self) -> dict[str, int]:
        """System -> token of the route that requests follow now."""
        return {name: route.token for name, route in self._gateway.world.routes.items()}

    def stop(self) -> None:
        """Every accepted request has been answered on return."""
        self._stopped.set()
        self._gateway.is_draining = True
        self._offering.join(timeout=CALL_TIMEOUT_S)
        doors.release(self._root, self._bound)
        self._server.stop()
        self._serving.join(timeout=CALL_TIMEOUT_S)
        self._refreshing.join(timeout=CALL_TIMEOUT_S)
        self._log.close()
        if self._tracing:
            self._tracing.close()

    def _serve(self) -> None:
        uvloop.run(self._served())

    async def _served(self) -> None:
        self._calls.begin()
        await self._server.serve(self._bound)

    def _offer_always(self) -> None:
        """On a thread of its own, as the keeper lets go of a socket of which it hears nothing for long."""
        while not self._stopped.wait(OFFER_S):
            doors.offer(self._root, self._bound)

    def _refresh_always(self) -> None:
        while not self._stopped.wait(OUTAGE_REFRESH_S if self._calls.has_outage else REFRESH_S):
            self.refresh()
            self._log.flush()
            if self._tracing:
                self._tracing.flush()
            # Figures and samples are worth less than serving.
            with contextlib.suppress(PlatformError):
                self._read_platform()
            with contextlib.suppress(PlatformError):
                self._gateway.samples.flush()


def _tracing(settings: Settings) -> Tracing | None:
    """None where nothing is traced: the libraries for it are an extra."""
    if not settings.traces.endpoint:
        return None
    from platformops.gateway.tracing import exporting_to

    return exporting_to(settings.traces.endpoint, ratio=settings.traces.ratio)


def new_request_id() -> str:
    """24 hex digits, never taken from a client: it names evidence and labels later."""
    return secrets.token_hex(12)
