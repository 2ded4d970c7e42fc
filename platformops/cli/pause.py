"""`platformops pause`: see `ordering` for what it shares with the others that steer a release."""

from __future__ import annotations

from platformops.cli.options import AsJson
from platformops.cli.ordering import As, System


def pause(system: System, as_: As = "", json_: AsJson = False) -> None:
    """Keep a running release at its step; its guards go on."""
    from platformops.cli.ordering import carry_out
    from platformops.delivery import orders

    carry_out(orders.pause, system, as_, as_json=json_)
