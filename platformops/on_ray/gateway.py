"""The gateway as a detached actor: an HTTP server thread, a thread that reads the store each second, no state.

Killed, it comes back on the same port with everything read again. It reserves no CPU, so that it is never in the way
of placing work.
"""

from __future__ import annotations

import contextlib
import gc
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import ray
import uvloop
from ray.serve.exceptions import RayServeException

from platformops.clock import SystemClock
from platformops.delivery.evidence import Tallies
from platformops.delivery.records import Route
from platformops.delivery.systems import load_systems
from platformops.errors import ClusterError, PlatformError
from platformops.gateway import router
from platformops.gateway.access_log import AccessLog
from platformops.gateway.app import Gateway, Policy
from platformops.gateway.protocol import HttpLimits
from platformops.gateway.served import renew
from platformops.gateway.server import HttpServer, bind
from platformops.home import Home
from platformops.on_ray.actors import ask, running, stop
from platformops.on_ray.calls import Origin, ReplicaCalls
from platformops.on_ray.metrics import platform_readings
from platformops.on_ray.serving import revision_statuses, start_serve
from platformops.on_ray.session import NAMESPACE, on_this_machine
from platformops.security.keys import STORED_UNDER
from platformops.store.open import open_store

NAME = "platformops-gateway"
REFRESH_S = 1.0
OUTAGE_REFRESH_S = 0.2
"""While a revision has no replica: the moment in which it has one again is waited for."""
READ_EVERY_S = 5.0
START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 20.0
LOG_FILE = "gateway.jsonl"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the gateway listens and what it reads."""

    home: Home
    host: str = "127.0.0.1"
    port: int = 0
    policy: Policy = field(default_factory=Policy)
    limits: HttpLimits = field(default_factory=HttpLimits)


class GatewayProcess:
    """What runs in the actor: three threads around one `Gateway`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._read_at = float("-inf")
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._store = open_store(settings.home.store_url)
        self._calls = ReplicaCalls(SystemClock(), self._on_call)
        self._log = AccessLog(settings.home.logs / LOG_FILE)
        self._gateway = Gateway(
            call=self._calls,
            width=self._calls.width,
            ready=self._calls.ready,
            clock=SystemClock(),
            new_id=new_request_id,
            policy=settings.policy,
            observers=(self._log,),
            store=self._store,
        )
        self._server = HttpServer(self._gateway, limits=settings.limits, new_id=new_request_id)
        self._bound = bind(settings.host, settings.port)
        self.refresh()
        # What is loaded stays: collections need not look through it for as long as the gateway lives.
        gc.collect()
        gc.freeze()
        self._threads = [
            threading.Thread(target=self._serve, name="http", daemon=True),
            threading.Thread(target=self._refresh_always, name="refresh", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def address(self) -> str:
        """`http://HOST:PORT` once requests are taken."""
        host, port = self._bound.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def refresh(self) -> None:
        """Systems, routes, keys and replicas as they are now; what cannot be read now stays as it was."""
        # With the store away, or a bad record in it, serving goes on with the last world.
        with contextlib.suppress(PlatformError):
            systems = [system for system, _ in load_systems(self._store).values()]
            keys = self._store.scan(STORED_UNDER)
            with self._lock:
                self._gateway.world = renew(self._gateway.world, systems, keys)
        # With Serve's controller away, replicas and handles go on working without it.
        with contextlib.suppress(PlatformError, RayServeException, ray.exceptions.RayError):
            statuses = revision_statuses()
            self._calls.observe(statuses)
            self._gateway.book.keep_only(statuses)

    def tallies(self) -> Tallies:
        """What was counted of every revision since this process started."""
        return self._gateway.book.tallies()

    def _on_call(self, revision: str, origin: Origin, items: int, seconds: float) -> None:
        node, replica, resident_bytes, stages_s, cpu_s = origin
        self._gateway.book.sampled(revision, node, replica, resident_bytes)
        self._gateway.metrics.called(revision, node, items=items, seconds=seconds, stages_s=stages_s, cpu_s=cpu_s)

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
        self._server.stop()
        for thread in self._threads:
            thread.join(timeout=CALL_TIMEOUT_S)
        self._log.close()

    def _serve(self) -> None:
        uvloop.run(self._server.serve(self._bound))

    def _refresh_always(self) -> None:
        while not self._stopped.wait(OUTAGE_REFRESH_S if self._calls.has_outage else REFRESH_S):
            self.refresh()
            self._read_platform()
            self._log.flush()
            with contextlib.suppress(PlatformError):  # samples are worth less than serving
                self._gateway.samples.flush()


def new_request_id() -> str:
    """24 hex digits, never taken from a client: it names evidence and labels later."""
    return secrets.token_hex(12)


def start_gateway(settings: Settings) -> str:
    """The address of the gateway, started unless it runs already. Raises ClusterError when the port is taken."""
    actor = running(NAME)
    if actor is not None:
        return str(ask(NAME, actor.address.remote(), START_TIMEOUT_S))
    start_serve()
    settings = replace(settings, port=_free_port(settings.host, settings.port))
    actor = ray.remote(GatewayProcess).options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=8,
        resources=on_this_machine(),
    )
    return str(ask(NAME, actor.remote(settings).address.remote(), START_TIMEOUT_S))


def stop_gateway() -> bool:
    """The gateway takes nothing new, answers what it accepted, and is gone; False when there was none."""
    return stop(NAME)


def gateway_address() -> str | None:
    """Where the gateway listens; None when there is none."""
    actor = running(NAME)
    return str(ask(NAME, actor.address.remote(), CALL_TIMEOUT_S)) if actor is not None else None


def refresh_gateway() -> None:
    """What was just written to the store holds for every request that arrives from now on."""
    actor = running(NAME)
    if actor is not None:
        ask(NAME, actor.refresh.remote(), CALL_TIMEOUT_S)


def set_route(route: Route) -> None:
    """The route holds for every request that arrives from now on. Raises StoreConflict or ClusterError."""
    actor = running(NAME)
    if actor is None:
        raise ClusterError("no gateway runs", remedy="`platformops up` starts it")
    ask(NAME, actor.set_route.remote(route), CALL_TIMEOUT_S)


def routed(systems: Sequence[str]) -> Mapping[str, int]:
    """Token of the route in force, for those of `systems` that have one; empty when no gateway runs."""
    actor = running(NAME)
    tokens = ask(NAME, actor.tokens.remote(), CALL_TIMEOUT_S) if actor is not None else {}
    return {name: token for name, token in tokens.items() if name in systems}


def tallies() -> Sequence[Tallies]:
    """What the gateways counted of every revision; empty when none runs."""
    actor = running(NAME)
    return (ask(NAME, actor.tallies.remote(), CALL_TIMEOUT_S),) if actor is not None else ()


def _free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0, fixed before the actor starts so that a restarted one comes back to it.

    Bound without SO_REUSEPORT: the gateway of another home would otherwise share the port, and its clients.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ClusterError(
                f"the gateway cannot listen on {host}:{port}: {error.strerror}", remedy="choose another port"
            ) from error
        return int(probe.getsockname()[1])
