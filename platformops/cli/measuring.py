"""Measures a live system under a few loads: what clients see, and what the gateway counted meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from platformops.cli import open_loop
from platformops.cli.closed_loop import request_bytes, run
from platformops.clock import Clock
from platformops.errors import ClusterError, PlatformError
from platformops.observation import metrics
from platformops.observation.capacity.records import Call, Cause, Measured
from platformops.observation.metrics import Metric

CLIENTS = (1, 4, 16, 64)
ADMITTED_WITHIN_S = 10.0
"""A gateway reads keys once a second: it does not know one that was just made."""
RANDOM_SHARE, RANDOM_TIMES = 0.5, 2.0
"""Of the most that closed loops bring: where a system is meant to work; looked at for so much longer."""
FEWEST_AT_RANDOM = 200
LOOK_S = 0.2
SETTLE_S, IDLE_S = 0.3, 1.5
"""Until what a load has left to do is done; and for how long a machine is then looked at."""
UNAUTHORIZED = 401
MODES = 8
"""Of CPU time, up to `steal`: the time of guests is counted in them (proc(5))."""
STAGES = (Cause.DECODE, Cause.TRANSFORM, Cause.MODEL)
Counted = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A live system, and the keys that open it."""

    gateway: str
    """`http://HOST:PORT`."""
    system: str
    predict_key: str
    metrics_key: str
    replicas: int
    batch: int
    cores: float = math.inf
    """Of the cluster; infinite where nobody says."""
    max_queue: int = 512
    """Items that may wait at the gateway: with more, requests are refused."""


def measure(endpoint: Endpoint, body: bytes, kind: str, *, clients: int, seconds: float) -> Measured:
    """One stretch of closed-loop load. Raises PlatformError when requests fail."""
    port, request = asked_of(endpoint, body, kind)
    load = run(port, request, connections=clients, seconds=seconds)
    return _measured(endpoint, load, clients=clients, seconds=seconds, who=f"{clients} clients")


def measure_at_random(endpoint: Endpoint, body: bytes, kind: str, *, per_s: float, seconds: float) -> Measured:
    """One stretch of requests that come at random, so many a second: what clients wait when many of them come by chance
    at once, which no closed loop shows. Raises PlatformError when requests fail."""
    port, request = asked_of(endpoint, body, kind)
    due_s = open_loop.at_random(per_s, max(FEWEST_AT_RANDOM, int(per_s * seconds)))
    load = _answered(port, request, due_s)
    return _measured(endpoint, load, clients=None, seconds=due_s[-1], who=f"{per_s:.0f} requests a second")


async def _answered(port: int, request: bytes, due_s: Sequence[float]) -> Mapping[str, float]:
    """As closed loops tell it; the gateway counts what warmed up, too."""
    seen = await open_loop.run(port, request, due_s, warm_up=len(due_s) // 5)
    times = {f"{name}_ms": 1e3 * seen[f"{name}_s"] for name in ("mean", "p50", "p99")}
    return {"requests": len(due_s), "errors": seen["errors"], **times}


def asked_of(endpoint: Endpoint, body: bytes, kind: str) -> tuple[int, bytes]:
    """The gateway's port, and the bytes of one predict request."""
    headers = [f"Authorization: Bearer {endpoint.predict_key}", f"Content-Type: {kind}"]
    return int(endpoint.gateway.rpartition(":")[2]), request_bytes(f"/{endpoint.system}/predict", body, headers)


def _measured(
    endpoint: Endpoint, load: Coroutine[object, object, Mapping[str, float]], *, clients: int | None, seconds: float,
    who: str,
) -> Measured:  # fmt: skip
    before, busy_s = counted(endpoint), busy_here_s()
    seen = asyncio.run(load)
    busy_s, after = busy_here_s() - busy_s, counted(endpoint)
    if seen["errors"] or not seen["requests"]:
        raise PlatformError(
            f"{seen['errors']:.0f} of {seen['requests']:.0f} requests failed with {who}",
            remedy=f"platformops predict {endpoint.system} with the same file says why",
        )
    point = measured(endpoint, seen, before, after, clients=clients, seconds=seconds)
    return replace(point, busy_cores=busy_s / seconds) if is_here(endpoint) else point


def is_here(endpoint: Endpoint) -> bool:
    """Whether the cluster is this machine, as far as its cores tell."""
    return bool(endpoint.cores == psutil.cpu_count())


def busy_here_s() -> float:
    """CPU seconds that this machine has worked since it was started."""
    spent = psutil.cpu_times()
    return float(sum(spent[:MODES]) - spent.idle - getattr(spent, "iowait", 0.0))


def measured(
    endpoint: Endpoint,
    seen: Mapping[str, float],
    before: Counted,
    after: Counted,
    *,
    clients: int | None,
    seconds: float,
) -> Measured:
    """What clients saw and what was counted, as one point: its call is the mean of all, on all nodes."""
    calls = _grown(metrics.CALLS, before, after)
    if calls <= 0:
        raise PlatformError("the gateway counted no call to a replica", remedy="platformops status")
    stage_s = {c: _grown(metrics.STAGE_SECONDS, before, after, stage=c.value) / calls for c in STAGES}
    call = Call(
        replica="mean",
        items=_grown(metrics.CALL_ITEMS, before, after) / calls,
        seconds=_grown(metrics.CALL_SECONDS, before, after) / calls,
        stage_s=stage_s,
        cpu_s=_grown(metrics.REPLICA_CPU_SECONDS, before, after) / calls,
    )
    return Measured(
        replicas=endpoint.replicas,
        batch=endpoint.batch,
        seconds=seconds,
        requests=int(seen["requests"]),
        mean_s=seen["mean_ms"] / 1000,
        p50_s=seen["p50_ms"] / 1000,
        p99_s=seen["p99_ms"] / 1000,
        router_s=_grown(metrics.GATEWAY_CPU_SECONDS, before, after) / seen["requests"],
        serialisation_s=0.0,  # the gateway's CPU is known as a whole
        calls=(call,),
        clients=clients,
    )


def counted(endpoint: Endpoint) -> Counted:
    """Every series that the gateway exports now."""
    headers = {"Authorization": f"Bearer {endpoint.metrics_key}"}
    answer = httpx.get(f"{endpoint.gateway}/metrics", headers=headers, timeout=10.0, trust_env=False)
    answer.raise_for_status()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def await_admission(endpoint: Endpoint, clock: Clock) -> None:
    """The gateway knows both keys on return. Raises ClusterError."""
    until = clock.monotonic() + ADMITTED_WITHIN_S
    keys = {"/metrics": endpoint.metrics_key, f"/{endpoint.system}/info": endpoint.predict_key}
    for path, key in keys.items():
        while _status(endpoint.gateway + path, key) == UNAUTHORIZED:
            if clock.monotonic() >= until:
                raise ClusterError(f"{endpoint.gateway} does not know this user's keys", remedy="platformops status")
            clock.sleep(LOOK_S)


def _status(url: str, key: str) -> int:
    try:
        answer = httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=10.0, trust_env=False)
    except httpx.HTTPError as error:
        raise ClusterError(f"{url}: {type(error).__name__}", remedy="platformops status") from None
    return answer.status_code


def sweep(
    endpoint: Endpoint, file: Path, clock: Clock, *, seconds: float, clients: Sequence[int] = CLIENTS
) -> list[Measured]:
    """A point for each number of clients that are not too many for the queue, after a short one that warms up; and
    last, one of requests that come at random."""
    await_admission(endpoint, clock)
    clients = list(dict.fromkeys(min(n, endpoint.max_queue) for n in clients))
    body, kind = file.read_bytes(), kind_of(file)
    measure(endpoint, body, kind, clients=clients[-1], seconds=min(1.0, seconds))
    idle_cores = _idle_cores(clock) if is_here(endpoint) else 0.0
    points = [measure(endpoint, body, kind, clients=n, seconds=seconds) for n in clients]
    per_s = RANDOM_SHARE * max(point.throughput_per_s for point in points)
    with suppress(PlatformError):  # a short queue refuses what comes by chance at once; closed loops are then all
        points.append(measure_at_random(endpoint, body, kind, per_s=per_s, seconds=RANDOM_TIMES * seconds))
    return [replace(point, idle_cores=idle_cores) for point in points]


def _idle_cores(clock: Clock) -> float:
    """That this machine keeps busy while nothing is asked."""
    clock.sleep(SETTLE_S)
    busy_s, began = busy_here_s(), clock.monotonic()
    clock.sleep(IDLE_S)
    return (busy_here_s() - busy_s) / (clock.monotonic() - began)


def kind_of(file: Path) -> str:
    """The media type of an image by its name."""
    return "image/png" if file.suffix.lower() == ".png" else "image/jpeg"


def _grown(metric: Metric, before: Counted, after: Counted, **labels: str) -> float:
    name = metric.exported[0]
    return sum(
        value - before.get((found, where), 0.0)
        for (found, where), value in after.items()
        if found == name and labels.items() <= dict(where).items()
    )
