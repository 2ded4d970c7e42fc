"""`platformops cordon`: no new work for a node; what runs there goes on."""

from __future__ import annotations

from platformops.cli.nodes import As, Node
from platformops.cli.options import AsJson


def cordon(node: Node, as_: As = "", json_: AsJson = False) -> None:
    """Give a node no new work; what runs there goes on, and `uncordon` takes it back."""
    from platformops.cli.nodes import wish_for
    from platformops.health.nodes import Wish

    wish_for(node, Wish.CORDONED, as_, as_json=json_)
