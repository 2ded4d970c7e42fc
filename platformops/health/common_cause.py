"""Whether so many nodes fell silent together that the cause is common: a network, a switch, the monitor itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fell_silent_together(last_s: Floats, *, within_s: float) -> NDArray[np.intp]:
    """For each of the silent nodes, how many (itself too) spoke last within `within_s` of when it did."""
    ordered = np.sort(last_s)
    return np.searchsorted(ordered, last_s + within_s, "right") - np.searchsorted(ordered, last_s - within_s, "left")


def too_many(together: NDArray[np.intp], *, num_live: int, share: float) -> NDArray[np.bool_]:
    """More than `share` of the living nodes, and at least two: the death of one node is nobody else's.

    Independent deaths do not coincide: at 10 a thousand node-days two of 100 nodes die within two seconds once in
    400,000 years, so a crowd is evidence of a common cause whatever each one's odds (LANL: up to 48 of 49 nodes
    at once).
    """
    return (together >= 2) & (together > share * num_live)
