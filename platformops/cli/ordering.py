"""What the verbs that steer a release share: give the order, have the controller look, say what became of it."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

if TYPE_CHECKING:
    from platformops.clock import Clock
    from platformops.delivery.records import Rollout
    from platformops.store.records import Store

System = Annotated[str, typer.Argument(metavar="SYSTEM", help="The system whose release it is.", show_default=False)]
As = Annotated[str, typer.Option("--as", metavar="NAME", help="Who orders it, for the record; else who is logged in.")]
CONFLICTS = 20
LOOK_S = 0.1


class Order(Protocol):
    def __call__(self, store: Store, system: str, *, who: str, now: float) -> Rollout: ...


def carry_out(
    order: Order,
    system: str,
    who: str,
    *,
    as_json: bool,
    until: Callable[[Store, Rollout, Clock], Rollout] | None = None,
) -> None:
    """The order is given and recorded; `until` may wait for what comes of it."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, say
    from platformops.clock import SystemClock

    clock = SystemClock()
    with settings.opened_store(settings.home()) as store:
        rollout = given(order, store, system, who or getpass.getuser(), clock)
        rollout = until(store, rollout, clock) if until else rollout
    if as_json:
        print_json(rollout_document(rollout))
        return
    say(f"{rollout.name} is {rollout.state.value}: {rollout.reason}")
    next_step(f"platformops why {rollout.name}")


def rollout_document(rollout: Rollout) -> dict[str, str | list[str] | None]:
    """The object that these verbs end with under --json."""
    return {
        "rollout": rollout.name,
        "kind": rollout.kind.value,
        "state": rollout.state.value,
        "step": rollout.steps[rollout.step],
        "candidate": rollout.candidate.version_name,
        "stable": rollout.stable.version_name if rollout.stable else None,
        "reason": rollout.reason,
        "approved_by": [a.who for a in rollout.approvals],
    }


def given(order: Order, store: Store, system: str, who: str, clock: Clock) -> Rollout:
    """The controller writes twice a second while requests come; an order that met one of its writes is given again."""
    from platformops.errors import StoreConflict

    for _ in range(CONFLICTS):
        try:
            return order(store, system, who=who, now=clock.now())
        except StoreConflict:
            clock.sleep(LOOK_S)
    raise StoreConflict(f"{system} is being changed all the time", remedy="try again")
