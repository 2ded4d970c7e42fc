"""`platformops perf`: how a live system answers under load, what bounds it, and what other settings would do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platformops.cli.measuring import Endpoint
    from platformops.observation.capacity.records import Measured
    from platformops.store.records import JsonObject, Store

System = Annotated[str, typer.Argument(help="A live system.", show_default=False)]
File = Annotated[Path, typer.Argument(help="An image to send, again and again.", exists=True, show_default=False)]
Replicas = Annotated[int, typer.Option(min=0, max=10_000, help="Predict for so many replicas; 0 for as they are.")]
Rps = Annotated[float, typer.Option(min=0.0, help="Predict for so many requests a second; 0 for none.")]
Seconds = Annotated[float, typer.Option(min=0.2, max=300.0, help="Length of each stretch of load.")]


Page = Annotated[Path | None, typer.Option("--page", metavar="FILE", help="Write a page with charts there.")]


def perf(
    system: System,
    file: File,
    replicas: Replicas = 0,
    rps: Rps = 0.0,
    seconds: Seconds = 3.0,
    page: Page = None,
    json_: AsJson = False,
) -> None:
    """Load a live system, name its bottleneck, and predict other settings."""
    from platformops.cli import measuring
    from platformops.cli.output import next_step, print_json
    from platformops.clock import SystemClock

    endpoint = endpoint_of(system)
    points = measuring.sweep(endpoint, file, SystemClock(), seconds=seconds)
    document = told(points, endpoint, replicas=replicas or endpoint.replicas, rps=rps)
    if page is not None:
        page.write_text(_page(points, endpoint, document), encoding="utf-8")
    if json_:
        print_json(document)
    else:
        _print(points, document)
    next_step(f"open {page}" if page else f"platformops tune {system} {file} --slo p99=80ms")


def endpoint_of(system: str) -> Endpoint:
    """Where the system answers, and the keys for it and for metrics. Raises UserError when it is not up."""
    from platformops.cli import observing, settings
    from platformops.cli.access import ensure_key
    from platformops.cli.measuring import Endpoint
    from platformops.clock import SystemClock
    from platformops.delivery.systems import load_system
    from platformops.errors import UserError
    from platformops.gateway.served import limits_of
    from platformops.security.key_file import read_key_file

    where = settings.home()
    watched = observing.settings_of(where)
    with settings.opened_store(where) as store:
        found, _ = load_system(store, system)
        if found is None or found.stable is None:
            raise UserError(f"{system} is not live", remedy="platformops status")
        key, cores = read_key_file(ensure_key(system, where, store, SystemClock())), cores_of(store)
    limits = limits_of(found.stable.options)
    metrics_key = read_key_file(Path(watched.targets.key_file))
    return Endpoint(
        f"http://{watched.targets.gateways[0]}",
        system,
        key or "",
        metrics_key or "",
        found.stable.replicas_min,
        limits.batch,
        cores,
        limits.max_queue,
    )


def cores_of(store: Store) -> float:
    """Of the cluster's living nodes, as the controller saw them last; infinite where it saw none."""
    from platformops.delivery.systems import controller_status

    nodes = (controller_status(store) or {}).get("nodes")
    seen = [n for n in (nodes if isinstance(nodes, list | tuple) else ()) if isinstance(n, Mapping)]
    return sum(float(str(n.get("cpus", 0.0))) for n in seen if n.get("state") == "alive") or math.inf


def told(points: Sequence[Measured], endpoint: Endpoint, *, replicas: int, rps: float) -> JsonObject:
    """Points, laws, the bottleneck with its evidence, capacity and a prediction, as one document."""
    from platformops.observation.capacity.bottleneck import bottleneck
    from platformops.observation.capacity.laws import little, scalability
    from platformops.observation.capacity.queueing import predict
    from platformops.observation.capacity.records import Load, in_closed_loops
    from platformops.observation.capacity.service import capacity_interval
    from platformops.observation.capacity.tails import fit_live

    service, closed = fit_live(points, cores=endpoint.cores), in_closed_loops(points)
    curve = scalability([float(p.clients or 1) for p in closed], [p.throughput_per_s for p in closed])
    found = bottleneck(closed[-1], service)
    capacity = capacity_interval(points, replicas=replicas, batch=endpoint.batch, cores=endpoint.cores)
    document: dict[str, object] = {
        "points": [
            {
                "clients": p.clients,
                "rps": round(p.throughput_per_s, 1),
                "p50_ms": round(1e3 * p.p50_s, 2),
                "p99_ms": round(1e3 * p.p99_s, 2),
                "items_a_call": round(p.calls[0].items, 1),
            }
            for p in closed
        ],
        "little": [little(p).reason for p in closed if not little(p).is_consistent],
        "bottleneck": found.cause.value,
        "evidence": found.evidence,
        "relief": round(found.relief, 2),
        "capacity_rps": round(capacity.value, 1),
        "capacity_interval": [round(capacity.low, 1), round(capacity.high, 1)],
        "best_clients": round(min(curve.best_clients, 1e6), 1),
        "replicas": replicas,
    }
    if rps:
        answer = predict(service, Load(replicas, endpoint.batch, per_s=rps))
        document["predicted"] = {
            "offered_rps": rps,
            "rps": round(answer.throughput_per_s, 1),
            "p50_ms": round(1e3 * answer.p50_s, 2),
            "p99_ms": round(1e3 * answer.p99_s, 2),
            "utilisation": round(answer.utilisation, 3),
        }
    return document  # type: ignore[return-value]  # built of JSON's own types


def _page(points: Sequence[Measured], endpoint: Endpoint, document: JsonObject) -> str:
    from platformops.observation.capacity.bottleneck import bottleneck
    from platformops.observation.capacity.page import PerfPage, render
    from platformops.observation.capacity.records import in_closed_loops
    from platformops.observation.capacity.tails import fit_live

    service, closed = fit_live(points, cores=endpoint.cores), in_closed_loops(points)
    found, replicas = bottleneck(closed[-1], service), int(str(document["replicas"]))
    return render(PerfPage(endpoint.system, closed, service, found, replicas, endpoint.batch, _said(document)))


def _said(document: JsonObject) -> str:
    return f"{document['bottleneck']} bounds it: {document['evidence']}; without it {document['relief']} times as much"


def _print(points: Sequence[Measured], document: JsonObject) -> None:
    from platformops.cli.output import print_table, say

    rows = [
        (
            str(p.clients or "at random"),
            f"{p.throughput_per_s:,.0f}",
            f"{1e3 * p.p50_s:.1f}",
            f"{1e3 * p.p99_s:.1f}",
            f"{p.calls[0].items:.1f}",
        )
        for p in points
    ]
    print_table(("clients", "requests/s", "p50 ms", "p99 ms", "items a call"), rows)
    say()
    say(f"Bottleneck: {_said(document)}.")
    bounds = document["capacity_interval"]
    assert isinstance(bounds, list)
    interval = f"{bounds[0]} to {bounds[1]}"
    say(f"Capacity of {document['replicas']} replicas: {document['capacity_rps']} requests a second ({interval}).")
    for problem in document["little"]:  # type: ignore[union-attr]
        say(f"Not a steady state: {problem}")
    if answer := document.get("predicted"):
        say(f"Predicted: {answer}")
