"""Which revision is to answer a request: the pinned one for operators, the router's choice for everybody else."""

from __future__ import annotations

from dataclasses import dataclass

from platformops.delivery.records import Route
from platformops.gateway import router
from platformops.gateway.batching import Lane
from platformops.gateway.heads import Headers, header
from platformops.gateway.replies import RETRY_SOON, Refused
from platformops.gateway.served import Served, World
from platformops.security.keys import Identity

MAX_REQUEST_KEY_BYTES = 256


@dataclass(frozen=True, slots=True)
class Way:
    """Which revision is to answer a request, and by which route it is compared with stable."""

    revision: str
    route: Route | None = None
    """None for requests that are not compared."""
    stable: str = ""

    @property
    def entrance(self) -> str:
        """The revision whose queue decides whether a request is let in: stable's, where it can step in."""
        return self.stable or self.revision


@dataclass(frozen=True, slots=True)
class Place:
    """That a request was let in: its way, and the lane that counts it as arriving until it is carried out."""

    way: Way
    lane: Lane


def way_of(headers: Headers, request_id: str, identity: Identity | None, served: Served, world: World) -> Way:
    """The way of a request; raises Refused for a pin or a key that may not be, and where nothing takes traffic yet."""
    pinned = header(headers, b"x-platformops-revision")
    if pinned is not None:
        return Way(_pinned(pinned, identity, served.system.name))
    route, stable = world.routes.get(served.system.name), served.system.stable
    if route is None:
        raise Refused(503, "not_ready", "this system has no revision that takes traffic yet", headers=RETRY_SOON)
    key = header(headers, b"x-request-key")
    if key is not None and len(key) > MAX_REQUEST_KEY_BYTES:
        raise Refused(400, "bad_request_key", f"X-Request-Key may have {MAX_REQUEST_KEY_BYTES} bytes")
    chosen = router.choose(route, key.decode("latin-1") if key else request_id)
    is_compared = stable is not None and stable.name in route.weights
    return Way(chosen, route, stable.name) if stable and is_compared else Way(chosen)


def _pinned(revision: bytes, identity: Identity | None, system: str) -> str:
    if identity is None or not identity.may("operate", system=system):
        raise Refused(403, "forbidden", "only keys with the scope operate may choose a revision")
    prefix, _, number = revision.decode("latin-1").rpartition("-r")
    if prefix != system or not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise Refused(404, "unknown_revision", "this system has no revision of that name")
    return f"{prefix}-r{number}"
