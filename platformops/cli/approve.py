"""`platformops approve`: see `ordering` for what it shares with the others that steer a release."""

from __future__ import annotations

from platformops.cli.options import AsJson
from platformops.cli.ordering import As, System


def approve(system: System, as_: As = "", json_: AsJson = False) -> None:
    """Let a release have traffic where the spec wants that approved, else go on without proof; it is put on record."""
    from platformops.cli.ordering import carry_out
    from platformops.delivery import orders

    carry_out(orders.approve, system, as_, as_json=json_)
