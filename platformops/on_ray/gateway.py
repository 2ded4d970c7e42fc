"""The gateway as a detached actor: started, found, told of routes, and stopped.

Killed, it comes back on the same port with everything read again; nothing that takes long to import is imported here,
so that it listens again as soon as its process has started. It reserves no CPU, so that it is never in the way of
placing work.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import ray

from platformops.errors import ClusterError
from platformops.gateway.app import Policy
from platformops.gateway.protocol import HttpLimits
from platformops.gateway.server import BACKLOG, bind
from platformops.gateway.trace_context import Traces
from platformops.home import Home
from platformops.keeper import doors
from platformops.on_ray.actors import ask, running, stop
from platformops.on_ray.priority import go_first
from platformops.on_ray.session import NAMESPACE, on_this_machine

if TYPE_CHECKING:
    from platformops.delivery.evidence import Tallies
    from platformops.delivery.records import Route

NAME = "platformops-gateway"
START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the gateway listens and what it reads."""

    home: Home
    host: str = "127.0.0.1"
    port: int = 0
    policy: Policy = field(default_factory=Policy)
    limits: HttpLimits = field(default_factory=HttpLimits)
    traces: Traces = field(default_factory=Traces)


class GatewayProcess:
    """What runs in the actor. It listens before it has loaded what answers, and where a keeper has its socket too, even
    while it does not run: clients wait for those seconds, unrefused."""

    def __init__(self, settings: Settings) -> None:
        go_first()
        held = doors.take(settings.home.root, (settings.host, settings.port))
        self._bound = held or bind(settings.host, settings.port)
        self._bound.listen(BACKLOG)
        doors.offer(settings.home.root, self._bound)
        from platformops.on_ray.gateway_server import GatewayServer

        self._server = GatewayServer(settings, self._bound)

    def address(self) -> str:
        """`http://HOST:PORT` once requests are answered."""
        host, port = self._bound.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def refresh(self) -> None:
        """Systems, routes, keys and replicas as they are now."""
        self._server.refresh()

    def tallies(self) -> Tallies:
        """What was counted of every revision since this process started."""
        return self._server.tallies()

    def set_route(self, route: Route) -> None:
        """The route is in force on return. Raises StoreConflict when a newer one is."""
        self._server.set_route(route)

    def tokens(self) -> dict[str, int]:
        """System -> token of the route that requests follow now."""
        return self._server.tokens()

    def stop(self) -> None:
        """Every accepted request has been answered on return."""
        self._server.stop()


def start_gateway(settings: Settings) -> str:
    """The address of the gateway, started unless it runs already. Raises ClusterError when the port is taken."""
    actor = running(NAME)
    if actor is not None:
        return str(ask(NAME, actor.address.remote(), START_TIMEOUT_S))

    from platformops.on_ray.serving import start_serve

    start_serve()
    settings = replace(settings, port=free_port(settings.home, settings.host, settings.port))
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


def free_port(home: Home, host: str, port: int) -> int:
    """`port`, or a free one for 0, fixed before the actor starts so that a restarted one comes back to it. Raises
    ClusterError where somebody else listens there; the keeper of this home does so for this very gateway.

    Bound without SO_REUSEPORT: the gateway of another home would otherwise share the port, and its clients.
    """
    if doors.is_held(home.root, (host, port)):
        return port
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
