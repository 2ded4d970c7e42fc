"""`platformops status`: what runs, as the controller saw it last, and how long ago that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from platformops.cli.options import AsJson
from platformops.cli.watching import Watch
from platformops.store.records import Json, JsonObject

if TYPE_CHECKING:
    from platformops.cli.trends import Trends
    from platformops.clock import Clock
    from platformops.store.records import Store

OBSERVED = "status/controller"
SILENT_AFTER_S = 10.0
"""The controller reports every 2 s; what it said longer ago than this may not be so any more."""


def status(watch: Watch = False, json_: AsJson = False) -> None:
    """Show what runs: systems, traffic, nodes, controller."""
    from platformops.cli import settings
    from platformops.cli.trends import Trends
    from platformops.cli.watching import show
    from platformops.clock import SystemClock

    clock, trends = SystemClock(), Trends()
    with settings.opened_store(settings.home()) as store:
        show(
            lambda: seen(store, clock.now()),
            lambda document: _draw(document, trends, clock, is_live=watch),
            clock, watch=watch, json_=json_,
        )  # fmt: skip


def seen(store: Store, now: float) -> JsonObject:
    """`{"systems", "nodes", "waiting", "controller"}`: wishes from the store, the rest as the controller saw it."""
    from platformops.cli import nodes as watched
    from platformops.cli.endpoint import endpoint_of
    from platformops.delivery.documents import system_from

    entry = store.get(OBSERVED)
    controller = _controller(entry.value if entry else {}, now)
    observed = {str(s["name"]): s for s in _rows(entry.value.get("systems") if entry else None)}
    is_current = controller["state"] == "running"
    systems = []
    for wish in (system_from(record.value) for record in store.scan("system/")):
        name = wish.name
        wished: JsonObject = {
            "name": name,
            "state": "down" if wish.wanted == "down" else "unknown",
            "revision": wish.stable.name if wish.stable else None,
            "weights": dict(wish.route.weights) if wish.route else {},
            "replicas": {"ready": 0, "wanted": 0},
        }
        row = {**wished, **observed[name]} if is_current and name in observed else wished
        endpoint = endpoint_of(store, name) if is_current and wish.wanted == "up" else None
        systems.append({**row, "endpoint": endpoint})
    nodes = _with_health(store, _rows(entry.value.get("nodes") if entry and is_current else None), now)
    waiting = watched.observed(store, now)["waiting"]
    return {"systems": systems, "nodes": nodes, "waiting": waiting, "controller": controller}


def _with_health(store: Store, nodes: list[JsonObject], now: float) -> list[JsonObject]:
    """Each node with its state of health, None where nobody watches it."""
    from platformops.cli import nodes as watched

    seen = watched.observed(store, now)
    health = {row["id"]: row for row in watched.rows(seen["nodes"])} if seen["is_current"] else {}
    names = ("probability", "is_cordoned", "is_draining", "remedy")
    return [
        {**node, "health": health[node["id"]]["state"], **{name: health[node["id"]][name] for name in names}}
        if node.get("id") in health
        else {**node, "health": None}
        for node in nodes
    ]


def _controller(observed: JsonObject, now: float) -> JsonObject:
    at = observed.get("at")
    if not isinstance(at, int | float):
        return {"state": "absent", "epoch": None, "seen_s_ago": None, "problems": []}
    age_s = max(0.0, now - at)
    state = "running" if age_s <= SILENT_AFTER_S else "silent"
    problems = observed.get("problems")
    return {"state": state, "epoch": observed.get("epoch"), "seen_s_ago": round(age_s, 1), "problems": problems or []}


def _rows(value: Json) -> list[JsonObject]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, Sequence) else []


def _draw(document: JsonObject, trends: Trends, clock: Clock, *, is_live: bool) -> None:
    """The status, and while it is watched what each system answers, as bars that grow by one at each look."""
    from platformops.cli.output import say

    _print(document)
    if not is_live:
        return
    problem = _looked(document, trends, clock)
    for system in _rows(document["systems"]):
        for line in trends.lines(str(system["name"])):
            say(f"{system['name']}: {line}")
    if problem:
        say(problem)


def _looked(document: JsonObject, trends: Trends, clock: Clock) -> str:
    """Why what is answered cannot be told now; empty when it can."""
    import httpx

    from platformops.cli import measuring
    from platformops.cli.perf import endpoint_of
    from platformops.errors import PlatformError

    live = next((str(s["name"]) for s in _rows(document["systems"]) if s["state"] == "live"), None)
    if live is None:
        return ""
    try:
        trends.look(measuring.counted(endpoint_of(live)), clock.monotonic())
    except (PlatformError, httpx.HTTPError) as error:
        return f"what is answered is not known now: {error}"
    return ""


def _print(document: JsonObject) -> None:
    from platformops.cli.output import next_step, print_table, say

    systems, nodes = _rows(document["systems"]), _rows(document["nodes"])
    if systems:
        columns = ("system", "state", "revision", "replicas", "traffic", "endpoint")
        print_table(columns, [_system_row(system) for system in systems])
    else:
        say("No systems yet.")
    if nodes:
        say()
        rows = [tuple(str(n.get(key) or "") for key in ("id", "address", "state", "cpus", "health")) for n in nodes]
        print_table(("node", "address", "state", "CPUs", "health"), rows)
    say()
    say(f"Controller: {_controller_text(document['controller'])}")
    for system in systems:
        if system.get("reason"):
            say(f"{system['name']}: {system['reason']}")
    for one in _rows(document["waiting"]):
        say(f"{one['name']} of {one['team']} waits for room: {one['reason']}")
    live = next((s["name"] for s in systems if s["state"] == "live"), None)
    next_step(f"platformops predict {live} IMAGE" if live else "platformops up configs/digits.yaml")


def _system_row(system: JsonObject) -> tuple[str, ...]:
    replicas, weights = system["replicas"], system["weights"]
    ready = f"{replicas.get('ready')} of {replicas.get('wanted')}" if isinstance(replicas, Mapping) else str(replicas)
    traffic = (
        " ".join(f"{name} {weight:g} %" for name, weight in weights.items()) if isinstance(weights, Mapping) else ""
    )
    cells = (system["name"], system["state"], system["revision"] or "", ready, traffic, system["endpoint"] or "")
    return tuple(str(cell) for cell in cells)


def _controller_text(controller: Json) -> str:
    assert isinstance(controller, Mapping)
    if controller["state"] == "absent":
        return "never ran here"
    problems = controller["problems"]
    said = f"; {'; '.join(str(p) for p in problems)}" if isinstance(problems, Sequence) and problems else ""
    return f"{controller['state']}, last seen {controller['seen_s_ago']} s ago, epoch {controller['epoch']}{said}"
