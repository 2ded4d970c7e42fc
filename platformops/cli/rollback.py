"""`platformops rollback`: all traffic to the last good version, without being told which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platformops.cli.options import AsJson
from platformops.cli.ordering import As, System

if TYPE_CHECKING:
    from platformops.clock import Clock
    from platformops.delivery.records import Rollout
    from platformops.store.records import Store

LONGEST_S = 120.0
LOOK_S = 0.1


def rollback(system: System, as_: As = "", json_: AsJson = False) -> None:
    """Give all traffic to the last good version, at once; a running release is ended."""
    from platformops.cli.ordering import carry_out
    from platformops.delivery import orders

    carry_out(orders.roll_back, system, as_, as_json=json_, until=ended)


def ended(store: Store, rollout: Rollout, clock: Clock) -> Rollout:
    """The rollout once the traffic has moved: at once when the earlier version is still warm."""
    from platformops.delivery.rollout import is_running
    from platformops.delivery.systems import load_rollout

    began = clock.monotonic()
    while is_running(rollout) and clock.monotonic() - began < LONGEST_S:
        clock.sleep(LOOK_S)
        rollout = load_rollout(store, rollout.system, rollout.number) or rollout
    return rollout
