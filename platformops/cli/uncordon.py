"""`platformops uncordon`: a node takes work again, also one that the platform had barred."""

from __future__ import annotations

from platformops.cli.nodes import As, Node
from platformops.cli.options import AsJson


def uncordon(node: Node, as_: As = "", json_: AsJson = False) -> None:
    """Give a node work again; one that was barred for coming back too often returns on probation."""
    from platformops.cli import settings
    from platformops.cli.nodes import named, wish_for
    from platformops.health.nodes import Wish

    with settings.opened_store(settings.home()) as store:
        is_barred = named(store, node)["state"] == "barred"
    wish_for(node, Wish.PARDONED if is_barred else Wish.NONE, as_, as_json=json_)
