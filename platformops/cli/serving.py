"""Has the controller and the gateway run: looks first, and joins Ray only when one of them is missing."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from urllib.error import URLError

from platformops.cli import settings
from platformops.cli.cluster import SERVING_LOCK, one_at_a_time
from platformops.cli.endpoint import GATEWAY, gateway_url
from platformops.cli.running import Session
from platformops.cli.status import SILENT_AFTER_S
from platformops.delivery.systems import controller_status
from platformops.errors import ClusterError
from platformops.home import Home
from platformops.pipeline.records import Progress
from platformops.security.key_file import read_key_file

STAGE, LOOPBACK = "serving", "127.0.0.1"
HEALTH_TIMEOUT_S = 2.0
READY_TIMEOUT_S = 180.0
"""Replicas of a large model load for a minute, after the cluster was started anew."""
READY_LOOK_S = 0.1


def ensure_serving(s: Session, port: int) -> str:
    """The gateway's address, `http://127.0.0.1:PORT`, with a controller that turns. Raises ClusterError."""
    if running := _running(s):
        s.cluster.keep()
        return running
    began = s.clock.monotonic()
    s.show(Progress(STAGE, "running", message="starting the controller and the gateway"))
    s.cluster.get()
    with one_at_a_time(s.where, SERVING_LOCK):
        address = _running(s) or _started(s, port)
    s.show(Progress(STAGE, "done", message=address, elapsed_s=s.clock.monotonic() - began))
    return address


def _running(s: Session) -> str | None:
    address = gateway_url(s.store)
    return address if address and _turns(s) and is_healthy(address) else None


def _started(s: Session, port: int) -> str:
    from platformops.on_ray.controller import start_controller
    from platformops.on_ray.gateway import Settings, start_gateway
    from platformops.on_ray.session import attach

    attach()
    address = start_gateway(Settings(s.where, LOOPBACK, _port(s.where, port), traces=settings.traces()))
    s.store.put(GATEWAY, {"endpoint": address}, expect=None)
    start_controller(s.where)
    return address


def is_healthy(address: str) -> bool:
    """Whether a gateway answers at `address`."""
    return _is_ok(f"{address}/healthz")


def await_ready(s: Session, address: str, system: str, key_file: Path) -> None:
    """Requests are answered on return: a system that was released before has no replica yet right after its cluster
    was started. Raises ClusterError when none comes."""
    began, key, elapsed_s = s.clock.monotonic(), read_key_file(key_file), 0.0
    while not _is_ok(f"{address}/{system}/ready", key):
        elapsed_s = s.clock.monotonic() - began
        if elapsed_s > READY_TIMEOUT_S:
            raise ClusterError(f"{system} has no replica that takes calls", remedy=f"platformops logs {system}")
        s.show(Progress(STAGE, "running", message="waiting for the replicas", elapsed_s=elapsed_s))
        s.clock.sleep(READY_LOOK_S)
    if elapsed_s:
        s.show(Progress(STAGE, "done", message=address, elapsed_s=s.clock.monotonic() - began))


def _is_ok(url: str, key: str | None = None) -> bool:
    """Whether a probe of the gateway answers 200 with JSON; any other server on its port does not."""
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(asked, timeout=HEALTH_TIMEOUT_S) as reply:
            return bool(reply.status == 200 and json.loads(reply.read()))
    except (URLError, OSError, ValueError):
        return False


def _port(where: Home, port: int) -> int:
    """`port`, or 0 for any where somebody else has it."""
    from platformops.on_ray.gateway import free_port

    try:
        return free_port(where, LOOPBACK, port)
    except ClusterError:
        return 0


def _turns(s: Session) -> bool:
    status = controller_status(s.store)
    at = status.get("at") if status else None
    return isinstance(at, int | float) and s.clock.now() - at <= SILENT_AFTER_S
