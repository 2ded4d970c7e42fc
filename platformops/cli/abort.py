"""`platformops abort`: see `ordering` for what it shares with the others that steer a release."""

from __future__ import annotations

from platformops.cli.options import AsJson
from platformops.cli.ordering import As, System


def abort(system: System, as_: As = "", json_: AsJson = False) -> None:
    """End a running release; what is stable has all traffic."""
    from platformops.cli.ordering import carry_out
    from platformops.delivery import orders

    carry_out(orders.abort, system, as_, as_json=json_)
