"""Which revision a request goes to: a stable hash of its key, so that nobody is thrown back and forth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b


def choose(weights: Mapping[str, float], key: str) -> str:
    """The revision for `key` under weights in percent: the same for the same key and weights.

    Weighted rendezvous hashing (Schindelhauer and Schomaker 2005, "Weighted distributed hash tables"): when a weight
    rises, keys move only to that revision, never between two others while a rollout climbs.
    """
    if len(weights) == 1:
        return next(iter(weights))
    return max(weights, key=lambda revision: (_score(revision, weights[revision], key), revision))


def _score(revision: str, weight: float, key: str) -> float:
    if weight <= 0:
        return -math.inf
    digest = blake2b(f"{revision}\0{key}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return -weight / math.log(uniform)
