"""`platformops health`: every node's state, how likely it fails and why, what is planned, and what happened last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson
from platformops.cli.watching import Watch
from platformops.store.records import Json, JsonObject

if TYPE_CHECKING:
    from platformops.store.records import Store

EVENTS = 3

What = Annotated[str, typer.Argument(metavar="[report]", help="`report`: how well nodes were judged here so far.")]


def health(what: What = "", watch: Watch = False, json_: AsJson = False) -> None:
    """Show the health of every node: state, probability of failure and why, planned remedy, last events."""
    from platformops.cli import settings
    from platformops.cli.health_report import print_report, report
    from platformops.cli.output import print_json
    from platformops.cli.watching import show
    from platformops.clock import SystemClock
    from platformops.errors import UserError
    from platformops.spec.echo import shown

    if what not in ("", "report"):
        raise UserError(f"health knows no {shown(what)}", remedy="platformops health, or platformops health report")
    clock = SystemClock()
    with settings.opened_store(settings.home()) as store:
        if what == "report":
            print_json(report(store)) if json_ else print_report(report(store))
            return
        show(
            lambda: seen(store, clock.now()),
            lambda document: _draw(document, is_live=watch),
            clock, watch=watch, json_=json_,
        )  # fmt: skip


def seen(store: Store, now: float) -> JsonObject:
    """`{"nodes", "seen_s_ago", "is_current", "problems", "breaker"}`, each node with its last `events`."""
    from platformops.cli.nodes import observed, rows
    from platformops.delivery.decisions import decision_json, explain

    document = observed(store, now)
    nodes = [
        {**row, "events": [decision_json(d) for d in explain(store, str(row["id"]), limit=EVENTS)]}
        for row in rows(document["nodes"])
    ]
    return {**document, "nodes": nodes}


def _draw(document: JsonObject, *, is_live: bool) -> None:
    from platformops.cli.nodes import SHORT, rows
    from platformops.cli.output import next_step, print_table, say

    nodes = rows(document["nodes"])
    if not nodes:
        say("No nodes are watched yet.")
        next_step("platformops up configs/digits.yaml")
        return
    columns = ("node", "address", "state", "heard", "fails within 1 h", "planned", "because")
    print_table(columns, [_row(row) for row in nodes])
    for row in nodes:
        for event in rows(row["events"]):
            say(f"{str(row['id'])[:SHORT]}: {event['decision']}: {event['reason']}")
    _print_trouble(document)
    if not is_live:
        next_step(f"platformops why node {str(nodes[0]['id'])[:SHORT]}")


def _print_trouble(document: JsonObject) -> None:
    from platformops.cli.output import say

    if not document["is_current"]:
        say(f"\nThe controller is silent; this is {document['seen_s_ago']} s old.")
    if document["breaker"]:
        say(f"\nThe breaker is open: {document['breaker']}. Nothing more is taken out until a person looks at it.")
    for problem in document["problems"] if isinstance(document["problems"], list) else ():
        say(f"problem: {problem}")


def _row(row: JsonObject) -> tuple[str, ...]:
    from platformops.cli.nodes import SHORT

    heard, probability = row["heard_s_ago"], row["probability"]
    return (
        str(row["id"])[:SHORT] + (" (head)" if row["is_head"] else "") + (" (drill)" if row.get("is_drill") else ""),
        str(row["address"]),
        _state(row),
        f"{heard:.1f} s ago" if isinstance(heard, int | float) else "never",
        f"{probability:.2%}" if isinstance(probability, int | float) and row["liveness"] != "dead" else "",
        _planned(row),
        _reasons(row["reasons"]) or str(row["reason"]),
    )


def _state(row: JsonObject) -> str:
    said = [str(row["state"])]
    if row["liveness"] not in ("alive", "dead"):
        said.append(str(row["liveness"]))
    if row["is_draining"]:
        said.append(f"draining ({waits})" if (waits := row.get("waits_for")) else "draining")
    elif row["is_cordoned"]:
        said.append(f"cordoned by {row['wished_by'] or 'the platform'}")
    return ", ".join(dict.fromkeys(said))


def _planned(row: JsonObject) -> str:
    """The remedy with its expected cost, and what the next best would cost."""
    costs = row["costs_slot_s"]
    if not row["planned"] or not isinstance(costs, Mapping):
        return ""
    remedy = str(row["remedy"]) if row["remedy"] != "wait" else str(row["planned"])
    others = [f"{name} {_number(cost)}" for name, cost in costs.items() if name != remedy][:2]
    return f"{remedy} {_number(costs.get(remedy))} slot-s" + (f" ({', '.join(others)})" if others else "")


def _reasons(value: Json) -> str:
    return "; ".join(str(reason) for reason in value) if isinstance(value, list) else ""


def _number(value: Json) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else "?"
