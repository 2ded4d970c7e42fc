"""`platformops drain`: a node's work moves away, then its server ends; Ray cannot take that back."""

from __future__ import annotations

from platformops.cli.nodes import As, Node
from platformops.cli.options import AsJson


def drain(node: Node, as_: As = "", json_: AsJson = False) -> None:
    """Move a node's work away and end its server; replicas are replaced first and stopped after."""
    from platformops.cli.nodes import wish_for
    from platformops.health.nodes import Wish

    wish_for(node, Wish.DRAINED, as_, as_json=json_)
