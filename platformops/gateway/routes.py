"""Every route there is, and who may take it: deny is the default, and what is open is written here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from platformops.gateway.replies import Refused

OPEN = None
"""No key needed. Probes only, which tell of no system: whoever adds another route here gives a reason beside it."""
SYSTEM = re.compile(rb"[a-z0-9][a-z0-9._-]{0,62}")
HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class GatewayRoute:
    method: str
    path: str
    """With `{system}` for the name of a served system."""
    scope: str | None
    """Scope that the key needs; OPEN for none."""
    handler: str
    """Method of the gateway that answers."""


ROUTES = (
    GatewayRoute("GET", "/healthz", OPEN, "healthz"),
    GatewayRoute("GET", "/startupz", OPEN, "startupz"),
    GatewayRoute("GET", "/readyz", OPEN, "readyz"),
    GatewayRoute("GET", "/openapi.json", "predict", "openapi"),
    GatewayRoute("GET", "/docs", "predict", "docs"),
    GatewayRoute("GET", "/metrics", "operate", "metrics"),
    GatewayRoute("GET", "/{system}/ready", "predict", "ready"),
    GatewayRoute("GET", "/{system}/info", "predict", "info"),
    GatewayRoute("POST", "/{system}/predict", "predict", "predict"),
    GatewayRoute("POST", "/{system}/feedback", "predict", "feedback"),
)
_BY_PATH = {route.path.encode("ascii"): route for route in ROUTES}


@dataclass(frozen=True, slots=True)
class Match:
    route: GatewayRoute
    system: str | None


def match(raw_path: bytes) -> Match | None:
    """The route of a path exactly as it was sent.

    Nothing is decoded, merged or stripped: a path that needs it (`//`, `%2e`, `;x`, a trailing dot) is no route,
    so there is no second spelling that another rule could see differently.
    """
    exact = _BY_PATH.get(raw_path)
    if exact is not None:
        return Match(exact, None)
    parts = raw_path.split(b"/", 3)
    if len(parts) != 3 or parts[0] or not SYSTEM.fullmatch(parts[1]):
        return None
    route = _BY_PATH.get(b"/{system}/" + parts[2])
    return Match(route, parts[1].decode("ascii")) if route is not None else None


def check_method(route: GatewayRoute, method: str) -> None:
    """Raises Refused (405) unless the route answers `method`; HEAD goes where GET goes."""
    if method == route.method or (method == "HEAD" and route.method == "GET"):
        return
    allowed = b"GET, HEAD" if route.method == "GET" else route.method.encode("ascii")
    raise Refused(405, "method_not_allowed", "this route does not take that method", headers={b"allow": allowed})


def check_host(headers: Iterable[tuple[bytes, bytes]], allowed: frozenset[bytes]) -> None:
    """Raises Refused (400) unless there is exactly one well-formed Host, and among `allowed` when that names any."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        raise Refused(400, "bad_host", "send exactly one Host header with a host name and an optional port")
    if allowed and hosts[0].rpartition(b":")[0].lower() not in allowed and hosts[0].lower() not in allowed:
        raise Refused(400, "bad_host", "this host name is not served here")


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key of the one `Authorization: Bearer KEY` header; None when there is none, several, or another scheme."""
    values = [value for name, value in headers if name == b"authorization"]
    scheme, _, key = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
    return key.strip() or None if scheme.lower() == b"bearer" else None
