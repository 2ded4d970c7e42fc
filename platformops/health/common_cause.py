"""Whether so many nodes fell silent together that the cause is common: a network, a switch, the monitor itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fell_silent_together(last_s: Floats, late_last_s: Floats, *, period_s: float) -> NDArray[np.intp]:
    """For each node that spoke last at one of `last_s`, how many of the late ones (itself too) spoke last when it did.

    The beats of nodes that are cut off together are spread over one period, and jitter by a quarter. One whose last
    beats were late or lost when the others were cut off spoke last before them, so that those two periods later still
    count for it, though they are hardly late yet.
    """
    ordered = np.sort(late_last_s)
    until = np.searchsorted(ordered, last_s + 3.0 * period_s, "right")
    return until - np.searchsorted(ordered, last_s - 1.25 * period_s, "left")


def still_cut_off(together: NDArray[np.intp], crowds: NDArray[np.int64], *, share: float) -> NDArray[np.bool_]:
    """More than `share` of a crowd that is silent still, after others of it came back: what cut them off was more than
    one cut, and not all are over. One that died meanwhile is a smaller part of its crowd."""
    return (together >= 2) & (together > share * crowds)


def too_many(together: NDArray[np.intp], *, num_live: int, share: float) -> NDArray[np.bool_]:
    """More than `share` of the living nodes, and at least two: the death of one node is nobody else's.

    Independent deaths do not coincide: at 10 a thousand node-days two of 100 nodes die within two seconds once in
    400,000 years, so a crowd is evidence of a common cause whatever each one's odds (LANL: up to 48 of 49 nodes
    at once).
    """
    return (together >= 2) & (together > share * num_live)
