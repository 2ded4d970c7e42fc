"""What the router costs: beside a direct handle call, and with two revisions that are compared beside one.

    python benchmarks/router_overhead.py [--short]

All three ways are measured by turns in one run. Direct calls are made one after the other from this process; the
gateway is asked by HTTP from one connection for the time that it adds, and from many for what it carries.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.release_site import SYSTEM, Site, machine, site, wanted
from benchmarks.serving import measure

MANY = 64
SPLITS = {"10 %": 10.0, "50 %": 50.0}
TARGETS = {"throughput_ratio": ">= 0.85"}
Figures = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    is_short = parser.parse_args().short
    rounds, seconds = (4, 1.5) if is_short else (9, 3.0)
    with site() as made:
        stable = made.ended(made.release(made.version(1), wanted())).candidate
        from dataclasses import replace

        from platformops.delivery.systems import load_system
        from platformops.on_ray import gateway, serving
        from platformops.on_ray.controller import stop_controller

        stop_controller()  # the routes below are this script's
        other = replace(stable, number=2)
        serving.deploy_revision(other, made.home)
        until_ready(other.name)
        system, _ = load_system(made.store, SYSTEM)
        assert system is not None
        image = image_file(made)
        measured: list[dict[str, Figures]] = []
        for _ in range(rounds):
            one: dict[str, Figures] = {"direct": asyncio.run(direct(stable.name, image.read_bytes(), seconds))}
            for name, share in {"whole": 0.0, **SPLITS}.items():
                set_split(made, stable.name, other.name, share)
                one[name] = through_gateway(made, image, 1, seconds)
                one[f"{name}, {MANY}"] = through_gateway(made, image, MANY, seconds)
            measured.append(one)
        set_split(made, stable.name, other.name, 0.0)
        serving.remove_revision(other.name)
        gateway.refresh_gateway()
    print_table(measured)

    def added(figure: str) -> float:
        return statistics.median(one["50 %"][figure] - one["direct"][figure] for one in measured)

    def ratio(name: str) -> float:
        return statistics.median(one[f"{name}, {MANY}"]["rps"] / one[f"whole, {MANY}"]["rps"] for one in measured)

    kept, errors = (
        min(ratio(name) for name in SPLITS),
        sum(f.get("errors", 0.0) for one in measured for f in one.values()),
    )
    figures = {
        "p50_added_ms": round(added("p50_ms"), 3),
        "p99_added_ms": round(added("p99_ms"), 3),
        "throughput_ratio": round(kept, 3),
        **{f"throughput_ratio_{int(share)}": round(ratio(name), 3) for name, share in SPLITS.items()},
        "p50_split_added_ms": round(
            statistics.median(one["50 %"]["p50_ms"] - one["whole"]["p50_ms"] for one in measured), 3
        ),
        "errors": int(errors),
        **machine(),
    }
    passed = kept >= 0.85 and not errors
    print(json.dumps({"name": "router_overhead", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


def until_ready(name: str) -> None:
    from platformops.delivery.records import RevisionState
    from platformops.on_ray.serving import revision_status

    until = time.monotonic() + 120
    while revision_status(name).state is not RevisionState.READY:
        if time.monotonic() > until:
            raise SystemExit(f"{name}: {revision_status(name).reason}")
        time.sleep(0.2)


def image_file(made: Site) -> Path:
    from platformops.cli.load import rows_of
    from platformops.delivery.systems import load_system

    system, _ = load_system(made.store, SYSTEM)
    assert system is not None
    assert system.stable is not None
    path = Path(tempfile.mkdtemp(dir=made.home.root)) / "image.png"
    path.write_bytes(rows_of(system.stable, made.artifacts).contents[0])
    return path


def set_split(made: Site, stable: str, other: str, share: float) -> None:
    """The route in the store and in the gateway: stable alone, or a share of the other one beside it."""
    from dataclasses import replace

    from platformops.delivery.documents import system_json
    from platformops.delivery.records import Route
    from platformops.delivery.systems import load_system, system_key
    from platformops.on_ray import gateway

    system, version = load_system(made.store, SYSTEM)
    assert system is not None
    weights = {stable: 100.0 - share, **({other: share} if share else {})}
    route = Route(SYSTEM, weights, version + 1)
    made.store.put(system_key(SYSTEM), system_json(replace(system, route=route)), expect=version)
    gateway.set_route(route)


async def direct(revision: str, image: bytes, seconds: float) -> Figures:
    """Calls through a Serve handle of this process, set up as the gateway's own."""
    from platformops.on_ray.calls import handle_of

    handle = await handle_of(revision)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        await handle.remote([image], 0)
        times.append(1000 * (time.perf_counter() - began))
    await handle.shutdown_async()
    ordered = sorted(times[5:])
    return {
        "rps": len(ordered) / seconds,
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[int(0.99 * len(ordered))],
    }


def through_gateway(made: Site, image: Path, connections: int, seconds: float) -> Figures:
    port = int(made.address.rpartition(":")[2])
    headers = [f"Authorization: Bearer {made.token}"]
    return measure(port, f"/{SYSTEM}/predict", image, connections, seconds, headers)


def print_table(measured: list[dict[str, Figures]]) -> None:
    print(f"{'way':<14} {'p50 ms':>8} {'p99 ms':>8} {'requests/s':>11}   medians of {len(measured)} rounds")
    for name in measured[0]:
        p50, p99, rps = (statistics.median(one[name][f] for one in measured) for f in ("p50_ms", "p99_ms", "rps"))
        print(f"{name:<14} {p50:>8.2f} {p99:>8.2f} {rps:>11,.0f}")


if __name__ == "__main__":
    raise SystemExit(main())
