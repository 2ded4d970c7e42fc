"""Which nodes take no new work, known to every process of the cluster, and how a placement keeps off them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ray.experimental import internal_kv

KEY, NAMESPACE = b"platformops/avoided", b"platformops"
NODE_ID = "ray.io/node-id"
"""A label that Ray gives to every node."""


def avoid(nodes: Sequence[str], suspects: Sequence[str]) -> None:
    """From now on; what runs there already goes on."""
    value = json.dumps({"closed": list(nodes), "suspect": list(suspects)}).encode()
    internal_kv._internal_kv_put(KEY, value, overwrite=True, namespace=NAMESPACE)


def avoided() -> tuple[str, ...]:
    """Ids of nodes; none where nobody has said so, and for a process that is attached to no cluster."""
    return _said("closed")


def suspected() -> tuple[str, ...]:
    """Nodes that new work goes to only where there is no better place."""
    return _said("suspect")


def _said(which: str) -> tuple[str, ...]:
    if not internal_kv._internal_kv_initialized():
        return ()
    said = internal_kv._internal_kv_get(KEY, namespace=NAMESPACE)
    return tuple(json.loads(said)[which]) if said else ()


def selector(nodes: Sequence[str]) -> dict[str, str]:
    """A label selector that every node but these fulfils; empty where there is nothing to keep off, as a selector
    that nothing can fulfil would wait for ever."""
    return {NODE_ID: f"!in({','.join(sorted(nodes))})"} if nodes else {}
