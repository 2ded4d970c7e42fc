"""`platformops down`: stops what `up` started, and only that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platformops.clock import Clock
    from platformops.home import Home
    from platformops.store.records import Store

System = Annotated[str, typer.Argument(metavar="[SYSTEM]", help="Only this system; everything without one.")]
CONFLICTS = 20
GONE_WITHIN_S = 60.0
LOOK_S = 0.2


def down(system: System = "", json_: AsJson = False) -> None:
    """Stop what `up` started, and only that; what was trained and registered stays."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, say
    from platformops.clock import SystemClock

    where, clock = settings.home(), SystemClock()
    with settings.opened_store(where) as store:
        stopped = stop_systems(store, clock, only=system)
        ended = [] if system else _end_processes(where, store, clock)
    if json_:
        print_json({"systems": list(stopped), "ended": list(ended)})
        return
    for name in stopped:
        say(f"{name}: down")
    for what in ended:
        say(f"{what}: stopped")
    if not stopped and not ended:
        say("Nothing was running.")
    next_step("platformops up configs/digits.yaml")


def stop_systems(store: Store, clock: Clock, *, only: str) -> Sequence[str]:
    """Names of the systems that were up and are wanted down from now on. Raises UserError for an unknown one."""
    from platformops.delivery.systems import load_systems
    from platformops.errors import UserError

    known = load_systems(store)
    if only and only not in known:
        raise UserError(f"there is no system {only!r}", remedy=f"there are: {', '.join(known) or 'none'}")
    return [name for name in known if (not only or name == only) and _stopped(store, name, clock)]


def _stopped(store: Store, name: str, clock: Clock) -> bool:
    from platformops.delivery.systems import stop_system
    from platformops.errors import StoreConflict

    for _ in range(CONFLICTS):
        try:
            return stop_system(store, name, now=clock.now())
        except StoreConflict:
            clock.sleep(LOOK_S)
    raise StoreConflict(f"{name} is being changed all the time", remedy="try again")


def _end_processes(where: Home, store: Store, clock: Clock) -> Sequence[str]:
    """What was ended: the cluster, where it is ours; else the controller and the gateway on the cluster of others."""
    import os

    from platformops.cli.cluster import CLUSTER_LOCK, one_at_a_time
    from platformops.cli.endpoint import GATEWAY
    from platformops.cli.status import OBSERVED
    from platformops.keeper import process as keeper
    from platformops.keeper.errands import forget_left
    from platformops.on_ray import cluster
    from platformops.store.records import Put

    ended = ["the keeper"] if keeper.stop(where, clock) else []
    forget_left(where.errands)  # whoever stops everything does not want it taken up again
    if cluster.recorded(store) is not None:
        with one_at_a_time(where, CLUSTER_LOCK):
            ended += ["Ray on this machine"] if cluster.stop(where, store) else []
    elif store.get(GATEWAY) and (found := cluster.find(store, os.environ)):
        os.environ.update(found.environment)
        ended = _end_actors(store, clock)
    store.commit([Put(GATEWAY, {}, expect=None), Put(OBSERVED, None, expect=None)])
    return ended


def _end_actors(store: Store, clock: Clock) -> list[str]:
    from platformops.on_ray.controller import stop_controller
    from platformops.on_ray.gateway import stop_gateway
    from platformops.on_ray.serving import revision_statuses
    from platformops.on_ray.session import attach

    attach()
    began = clock.monotonic()
    while revision_statuses() and clock.monotonic() - began < GONE_WITHIN_S:
        clock.sleep(LOOK_S)  # the controller takes the systems down in good order
    return [what for what, is_ended in (("controller", stop_controller()), ("gateway", stop_gateway())) if is_ended]
