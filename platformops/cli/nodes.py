"""Nodes as people name them, what the controller saw of them last, and what people want of them."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.store.records import Json, JsonObject

if TYPE_CHECKING:
    from platformops.health.nodes import Wish
    from platformops.store.records import Store

OBSERVED = "status/fleet"
SILENT_AFTER_S = 10.0
"""The controller reports every 2 s."""
SHORT = 12
"""Characters of a node's id that tables show; any unique beginning names it."""
EFFECT_S = 10.0
LOOK_S = 0.2

Node = Annotated[
    str, typer.Argument(metavar="NODE", help="The beginning of its id, its address, or `head`.", show_default=False)
]
As = Annotated[str, typer.Option("--as", metavar="NAME", help="Who wishes it, for the record; else who is logged in.")]


def observed(store: Store, now: float) -> JsonObject:
    """`{"nodes", "seen_s_ago", "is_current", "problems", "breaker", "waiting"}` as the controller reported last."""
    entry = store.get(OBSERVED)
    value = entry.value if entry else {}
    at = value.get("at")
    age_s = max(0.0, now - at) if isinstance(at, int | float) else None
    return {
        "nodes": rows(value.get("nodes")),
        "seen_s_ago": None if age_s is None else round(age_s, 1),
        "is_current": age_s is not None and age_s <= SILENT_AFTER_S,
        "problems": value.get("problems") or [],
        "breaker": value.get("breaker") or "",
        "waiting": rows(value.get("waiting")) if age_s is not None and age_s <= SILENT_AFTER_S else [],
    }


def rows(value: Json) -> list[JsonObject]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, Sequence) else []


def named(store: Store, name: str) -> JsonObject:
    """The row of the node that `name` means. Raises UserError when it means none, or several."""
    from platformops.errors import UserError
    from platformops.spec.echo import shown

    entry = store.get(OBSERVED)
    known = rows(entry.value.get("nodes") if entry else None)
    found = [row for row in known if name and str(row["id"]).startswith(name)]
    found = found or [row for row in known if row["liveness"] != "dead" and row["address"] == name]
    found = found or [row for row in known if name == "head" and row["is_head"] and row["liveness"] != "dead"]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(str(row["id"])[:SHORT] for row in (found or known)[:12])
    if found:
        raise UserError(f"{shown(name)} means {len(found)} nodes: {listed}", remedy="write more of the id")
    remedy = f"there are: {listed}" if listed else "platformops up SPEC starts a cluster and its controller"
    raise UserError(f"there is no node {shown(name)}", remedy=remedy)


def wish_for(name: str, wish: Wish, who: str, *, as_json: bool) -> None:
    """Puts the wish on record with a decision, waits a moment for the controller, and says what came of it."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, say
    from platformops.clock import SystemClock

    clock = SystemClock()
    with settings.opened_store(settings.home()) as store:
        before = named(store, name)
        node = str(before["id"])
        is_new = put_wish(store, before, wish, who or getpass.getuser(), clock.now())
        deadline = clock.monotonic() + EFFECT_S
        while (row := named(store, node))["wish"] != wish.value and clock.monotonic() < deadline:
            if not observed(store, clock.now())["is_current"]:
                break
            clock.sleep(LOOK_S)
    is_followed = row["wish"] == wish.value
    if as_json:
        names = ("id", "address", "state", "is_cordoned", "is_draining", "wish")
        print_json({**{n: row[n] for n in names}, "wish": wish.value, "changed": is_new, "followed": is_followed})
        return
    say(f"{node[:SHORT]}: {_said(wish, is_new=is_new)}")
    if not is_followed:
        say("The controller is silent; it follows when it is back.")
    next_step(f"platformops why node {node[:SHORT]}")


def put_wish(store: Store, row: JsonObject, wish: Wish, who: str, now: float) -> bool:
    """False when it was wished already. Raises UserError for what would leave nothing to run on."""
    from platformops.delivery.decisions import decision_puts
    from platformops.delivery.records import Decision
    from platformops.health.nodes import WISHES, Wished, wish_from, wish_json
    from platformops.store.records import ABSENT, Put

    node = str(row["id"])
    check(store, row, wish)
    entry = store.get(WISHES + node)
    if (wish_from(entry.value).wish if entry else Wished().wish) is wish:
        return False
    said = Decision(node, f"{wish.value} by {who}", "a person wishes it", (), "", now)
    put = Put(WISHES + node, wish_json(Wished(wish, who, now)), expect=entry.version if entry else ABSENT)
    store.commit([put, *decision_puts(store, [said])])
    return True


def check(store: Store, row: JsonObject, wish: Wish) -> None:
    """Raises UserError for a wish that cannot be followed."""
    from platformops.errors import UserError
    from platformops.health.nodes import Wish

    short = str(row["id"])[:SHORT]
    if row["liveness"] == "dead":
        raise UserError(f"{short} is dead", remedy="start the node again; it joins by itself")
    if wish is Wish.DRAINED and row["is_vital"]:
        holds = "the cluster's own servers" if row["is_head"] else "the controller"
        raise UserError(f"{short} holds {holds} and cannot be drained", remedy=f"platformops cordon {short}")
    entry = store.get(OBSERVED)
    others = [
        r
        for r in rows(entry.value.get("nodes") if entry else None)
        if r["id"] != row["id"] and r["liveness"] != "dead" and not r["is_cordoned"]
    ]
    if wish in (Wish.CORDONED, Wish.DRAINED) and not others:
        raise UserError(f"{short} is the only node that takes work", remedy="let another node join first")
    if wish in (Wish.NONE, Wish.PARDONED) and row["is_draining"]:
        raise UserError(
            f"{short} is being drained, which Ray cannot take back", remedy="start the node again when it has ended"
        )


def _said(wish: Wish, *, is_new: bool) -> str:
    from platformops.health.nodes import Wish

    texts = {
        Wish.CORDONED: "takes no new work; what runs there goes on",
        Wish.DRAINED: "its work moves away, then it ends",
        Wish.NONE: "takes work again",
        Wish.PARDONED: "returns on probation, whatever it did",
    }
    return texts[wish] + ("" if is_new else " (that was so already)")
