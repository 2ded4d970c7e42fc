"""What probes and the controller say to each other, a datagram each, and that nobody else can say it.

A datagram is 16 bytes of keyed BLAKE2s (RFC 7693) over the JSON that follows. The key is made by the controller, kept
in its store and handed to each probe by the cluster itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2s
from hmac import compare_digest

from platformops.health.records import Heartbeat

SEAL_BYTES = 16
LONGEST_BYTES = 8192


class RayletState(Enum):
    """How the probe finds the server of its node."""

    ANSWERS = "answers"
    SILENT = "silent"
    STOPPED = "stopped"
    """Held still by a signal, as the kernel says."""
    GONE = "gone"
    """Its process has ended, as the kernel says."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A worker process of the node that a signal holds still."""

    pid: int
    started: int
    name: str
    for_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe says once a period. It counts as a heartbeat of the node only while its server answers."""

    heartbeat: Heartbeat
    raylet: RayletState
    readings: Mapping[str, float | None] = field(default_factory=dict)
    stopped: tuple[Stopped, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """What the controller answers a report with."""

    node: str
    epoch: int
    """A probe obeys the highest it has seen."""
    incarnation: int
    """The probe that is wanted on this node; one of a lower number ends itself."""
    answers: int
    """Number of the report that this answers; an old order is no order."""
    kill: tuple[tuple[int, int], ...] = ()
    """(pid, started) of processes of this node to be ended."""
    end_server: bool = False
    """The node was condemned: what still runs on it must not run twice."""


def report_bytes(report: Report, key: bytes) -> bytes:
    beat = report.heartbeat
    value = {
        "n": beat.node, "i": beat.incarnation, "s": beat.sequence, "t": round(beat.sent_s, 6),
        "d": round(beat.delay_s, 6), "r": report.raylet.value,
        "x": {name: value if value is None else float(f"{value:.6g}") for name, value in report.readings.items()},
        "p": [[one.pid, one.started, one.name, round(one.for_s, 3)] for one in report.stopped],
    }  # fmt: skip
    return _sealed(value, key)


def report_from(datagram: bytes, key: bytes) -> Report | None:
    """None for what was not said with this key, or is no report."""
    value = _opened(datagram, key)
    try:
        beat = Heartbeat(str(value["n"]), int(value["i"]), int(value["s"]), float(value["t"]), float(value["d"]))
        readings = {str(name): None if v is None else float(v) for name, v in value["x"].items()}
        stopped = tuple(Stopped(int(pid), int(at), str(name), float(s)) for pid, at, name, s in value["p"])
        return Report(beat, RayletState(value["r"]), readings, stopped)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def order_bytes(order: Order, key: bytes) -> bytes:
    value = {
        "n": order.node, "e": order.epoch, "i": order.incarnation, "a": order.answers,
        "k": [[pid, started] for pid, started in order.kill], "q": order.end_server,
    }  # fmt: skip
    return _sealed(value, key)


def order_from(datagram: bytes, key: bytes) -> Order | None:
    """None for what was not said with this key, or is no order."""
    value = _opened(datagram, key)
    try:
        kill = tuple((int(pid), int(started)) for pid, started in value["k"])
        return Order(str(value["n"]), int(value["e"]), int(value["i"]), int(value["a"]), kill, value["q"] is True)
    except (KeyError, TypeError, ValueError):
        return None


def _sealed(value: Mapping[str, object], key: bytes) -> bytes:
    said = json.dumps(value, separators=(",", ":")).encode()
    return blake2s(said, key=key, digest_size=SEAL_BYTES).digest() + said


def _opened(datagram: bytes, key: bytes) -> dict:  # type: ignore[type-arg]  # untyped until its reader has checked it
    seal, said = datagram[:SEAL_BYTES], datagram[SEAL_BYTES:]
    if len(datagram) > LONGEST_BYTES or not compare_digest(
        blake2s(said, key=key, digest_size=SEAL_BYTES).digest(), seal
    ):
        return {}
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
