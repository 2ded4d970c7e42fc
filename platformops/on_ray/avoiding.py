"""What placements must know of nodes, told to every process of the cluster: which take no new work, which only where
there is no better place, and how often each fails."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from ray.experimental import internal_kv

from platformops.store.records import JsonObject

KEY, NAMESPACE = b"platformops/avoided", b"platformops"
NODE_ID = "ray.io/node-id"
"""A label that Ray gives to every node."""


def avoid(nodes: Sequence[str], suspects: Sequence[str], rates_per_s: Mapping[str, float]) -> None:
    """From now on; what runs there already goes on. `""` is the failure rate of a node that is not named."""
    value = json.dumps({"closed": list(nodes), "suspect": list(suspects), "rates_per_s": dict(rates_per_s)}).encode()
    internal_kv._internal_kv_put(KEY, value, overwrite=True, namespace=NAMESPACE)


def avoided() -> tuple[str, ...]:
    """Ids of nodes; none where nobody has said so, and for a process that is attached to no cluster."""
    return tuple(_said().get("closed", ()))  # type: ignore[arg-type]  # as `avoid` wrote it


def suspected() -> tuple[str, ...]:
    """Nodes that new work goes to only where there is no better place."""
    return tuple(_said().get("suspect", ()))  # type: ignore[arg-type]


def hazards_per_s(nodes: Iterable[str]) -> Mapping[str, float]:
    """Failures a second to expect of each node, by its past and by what is seen of it now; 0.0 where nobody says."""
    rates: Mapping[str, float] = _said().get("rates_per_s", {})  # type: ignore[assignment]
    return {node: rates.get(node, rates.get("", 0.0)) for node in nodes}


def _said() -> JsonObject:
    if not internal_kv._internal_kv_initialized():
        return {}
    said = internal_kv._internal_kv_get(KEY, namespace=NAMESPACE)
    found: JsonObject = json.loads(said) if said else {}
    return found


def selector(nodes: Sequence[str]) -> dict[str, str]:
    """A label selector that every node but these fulfils; empty where there is nothing to keep off, as a selector
    that nothing can fulfil would wait for ever."""
    return {NODE_ID: f"!in({','.join(sorted(nodes))})"} if nodes else {}
