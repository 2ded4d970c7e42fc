"""Ranks of new values among all that came before: independent and uniform for as long as nothing changes.

Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005), theorem 8.1: with ties broken at random,
the ranks of an exchangeable sequence among their past are independent and uniform on [0, 1], whatever the distribution
and however short the reference. What is bet on them is therefore valid without any assumption but exchangeability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from platformops.observation.drift.records import Floats

MOST_POOLED = 20_000
"""Values that a new one is compared with. Later ones are not added: a drift slower than the pool would otherwise become
what is usual. A quantile of so many is known to 0.4 points, far below the smallest change that is bet on."""


class Pool:
    """The sorted values of one stream so far."""

    __slots__ = ("_values",)

    def __init__(self, reference: Floats) -> None:
        self._values = np.sort(reference[np.isfinite(reference)])

    def ranks(self, values: Floats, luck: Floats) -> Floats:
        """One rank in (0, 1) a value, in order, each among the pool and the values before it; they join the pool.

        `luck` holds one uniform number a value; values are finite.
        """
        below = np.searchsorted(self._values, values, "left").astype(np.float64)
        equal = np.searchsorted(self._values, values, "right") - below
        before = np.tri(len(values), k=-1, dtype=bool)
        below += (before & (values[None, :] < values[:, None])).sum(axis=1)
        equal += (before & (values[None, :] == values[:, None])).sum(axis=1)
        total = len(self._values) + np.arange(1, len(values) + 1)
        room = max(0, MOST_POOLED - len(self._values))
        self._values = np.sort(np.concatenate([self._values, values[:room]]), kind="stable")
        return (below + luck * (equal + 1.0)) / total


def luck_of(seed: int, rows: NDArray[np.uint64], stream: int) -> Floats:
    """A number in (0, 1) for each row and stream, the same whenever it is asked for: SplitMix64 of their positions.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. Looking again at the same
    rows, in batches of another size, must give the same verdict.
    """
    mixed = (rows + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed += np.array([stream + 1], np.uint64) * np.uint64(0xD1342543DE82EF95)
    mixed += np.array([seed + 1], np.uint64) * np.uint64(0xAF251AF3B0F025B5)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return ((mixed >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52
