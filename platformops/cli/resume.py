"""`platformops resume`: see `ordering` for what it shares with the others that steer a release."""

from __future__ import annotations

from platformops.cli.options import AsJson
from platformops.cli.ordering import As, System


def resume(system: System, as_: As = "", json_: AsJson = False) -> None:
    """Let a paused release go on, and a halted one begin anew."""
    from platformops.cli.ordering import carry_out
    from platformops.delivery import orders

    carry_out(orders.resume, system, as_, as_json=json_)
