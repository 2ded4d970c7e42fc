"""What a probe's readings are worth as signs of a failure, until a fleet's own outcomes correct it.

No public data set holds the readings of compute nodes and their failures, so these ratios are opinions of engineers,
kept low and capped: two of them together condemn, one alone only where nothing works any more. Load has no curve: a
busy processor is what a node is for, and what it makes slower is worth little. `calibration` corrects their sum by what
became of the nodes, and takes it out of use where it is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log

from platformops.health import vitals
from platformops.health.fusion import FusedModel
from platformops.health.ratios import Curve, squash
from platformops.health.risk import Signal

HORIZON_S = 3600.0
NETWORK_SURPRISE, FSYNC_SURPRISE, LOG_SURPRISE = "network_surprise", "fsync_surprise", "log_surprise"
ANSWER_DEVIATION, GPUS_LOST = "answer_deviation", "gpus_lost"

_WORTH: Mapping[str, tuple[str, Mapping[float, float]]] = {
    vitals.MEMORY_AVAILABLE: ("share of memory left", {0.01: 400.0, 0.03: 40.0, 0.08: 2.0, 0.15: 1.0}),
    vitals.MEMORY_STALL: ("share of time in which all wait for memory", {0.05: 1.0, 0.3: 8.0, 0.7: 40.0}),
    vitals.IO_STALL: ("share of time in which all wait for the disk", {0.7: 1.0, 0.97: 3.0}),
    vitals.DISK_FREE: ("share of the disk left", {0.002: 400.0, 0.01: 30.0, 0.03: 2.0, 0.06: 1.0}),
    vitals.INODES_FREE: ("share of the inodes left", {0.002: 400.0, 0.01: 30.0, 0.03: 2.0, 0.06: 1.0}),
    vitals.FSYNC: ("seconds until a small write is durable", {1.0: 1.0, 5.0: 8.0, 20.0: 100.0}),
    vitals.FILE_HANDLES: ("share of the kernel's file handles in use", {0.8: 1.0, 0.97: 60.0}),
    vitals.CLOCK_STEP: ("seconds that its clock jumped", {0.5: 1.0, 10.0: 4.0}),
    NETWORK_SURPRISE: ("powers of ten by which network errors are too many", {4.0: 1.0, 12.0: 20.0}),
    FSYNC_SURPRISE: ("powers of ten by which durable writes are slower than they were", {12.0: 1.0, 60.0: 1.5}),
    ANSWER_DEVIATION: ("powers of ten by which its server is slower than its peers'", {12.0: 1.0, 60.0: 1.5}),
    GPUS_LOST: ("GPUs fewer than it had", {0.0: 1.0, 1.0: 400.0}),
    vitals.GPU_ECC: ("uncorrected memory errors of its GPUs", {0.0: 1.0, 1.0: 20.0, 20.0: 200.0}),
    vitals.GPU_REMAPPED: ("memory rows of its GPUs given up", {0.0: 1.0, 1.0: 5.0, 8.0: 30.0}),
    vitals.GPU_THROTTLED: ("share of its GPUs that are slowed by their hardware", {0.0: 1.0, 1.0: 4.0}),
    vitals.GPU_XIDS: ("faults of its GPUs in an hour, as their driver says", {0.0: 1.0, 1.0: 100.0, 10.0: 400.0}),
    vitals.GPU_EARLY_XIDS: ("faults of its GPUs in an hour that they corrected", {0.0: 1.0, 1.0: 4.0, 10.0: 20.0}),
    vitals.KERNEL_HARDWARE: (
        "errors of its hardware in an hour, as its kernel says",
        {0.0: 1.0, 1.0: 6.0, 20.0: 100.0},
    ),
    vitals.KERNEL_DISK: ("errors of its disks in an hour, as its kernel says", {0.0: 1.0, 3.0: 6.0, 50.0: 100.0}),
    vitals.KERNEL_KILLED: ("programs in an hour that its kernel ended for want of memory", {2.0: 1.0, 20.0: 4.0}),
    LOG_SURPRISE: ("powers of ten by which errors in its server's log are too many", {6.0: 1.0, 30.0: 3.0}),
    vitals.LOG_NEW_ERRORS: ("kinds of errors in its server's log in an hour that are new", {3.0: 1.0, 20.0: 3.0}),
    vitals.GPU_TEMPERATURE: ("degrees of its hottest GPU", {87.0: 1.0, 97.0: 6.0}),
}
"""Signal -> words for people, and the likelihood ratio at some of its values; in between it is a line of logarithms."""


def first_opinion() -> FusedModel:
    """The model that every platform starts with: no reading, no change."""
    curves = tuple(_curve(name, words, worth) for name, (words, worth) in _WORTH.items())
    return FusedModel(HORIZON_S, 0.0, 1.0, curves, (1.0,) * len(curves))


def _curve(name: str, words: str, worth: Mapping[float, float]) -> Curve:
    knots = tuple(squash(value) for value in sorted(worth))
    return Curve(Signal(name, words), knots, (0.0, *(log(worth[value]) for value in sorted(worth)), 0.0))
