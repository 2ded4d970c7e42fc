"""Simulated heartbeats of a fleet with a known truth: who crashed, what was cut off, when the monitor itself slept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from platformops.health.records import Heartbeat


@dataclass(frozen=True, slots=True)
class Fleet:
    nodes: tuple[str, ...]
    period_s: float
    duration_s: float
    beats: list[tuple[float, Heartbeat]]
    """In the order in which the monitor reads them, with the time."""
    crashes: dict[str, float]
    partitions: list[tuple[float, float, frozenset[str]]]
    """Start, length, nodes cut off."""
    stalls: list[tuple[float, float]]
    """Start and length of the monitor's own absences."""

    def is_stalled(self, now_s: float) -> bool:
        return any(start <= now_s < start + length for start, length in self.stalls)

    def observable_s(self, node: str) -> float:
        """From when on the crash of `node` can be told from what the monitor sees: not while the node is cut off."""
        crash_s = self.crashes[node]
        cuts = [s + n for s, n, cut in self.partitions if node in cut and s <= crash_s < s + n]
        return max([crash_s, *cuts])


def read_fleet(path: Path) -> Fleet:
    """A stored simulation with its `_truth.json`."""
    frame = pd.read_parquet(path).sort_values("recv_s", kind="stable")
    truth = json.loads(path.with_name(f"{path.stem}_truth.json").read_text())
    columns = (frame.node.astype(str), frame.seq.tolist(), frame.sent_s.tolist(), frame.recv_s.tolist())
    return Fleet(
        nodes=tuple(str(node) for node in range(truth["N"])),
        period_s=truth["period_s"],
        duration_s=truth["T"],
        beats=[(recv_s, Heartbeat(node, 1, seq, sent_s)) for node, seq, sent_s, recv_s in zip(*columns, strict=True)],
        crashes={str(node): at_s for node, at_s in truth["crashes"]},
        partitions=[(s, n, frozenset(str(node) for node in cut)) for s, n, cut in truth["partitions"]],
        stalls=[(s, n) for s, n in truth["monitor_stalls"]],
    )


def simulate_fleet(seed: int, *, num_nodes: int = 48, duration_s: float = 2700.0) -> Fleet:
    """Quiet, busy and pausing nodes, a third of them over a slow network, with bursts of losses."""
    rng = np.random.default_rng(seed)
    nodes = tuple(str(node) for node in range(num_nodes))
    doomed = rng.choice(num_nodes, 8, replace=False)
    crashes = {nodes[n]: float(rng.uniform(0.3, 0.95) * duration_s) for n in doomed}
    partitions = [
        (float(rng.uniform(0.2, 0.9) * duration_s), 15.0, frozenset(rng.choice(nodes, int(0.4 * num_nodes), False)))
        for _ in range(2)
    ]
    stalls = sorted((float(rng.uniform(0.05, 0.95) * duration_s), float(rng.uniform(1.4, 5.3))) for _ in range(6))
    raw: list[tuple[float, Heartbeat]] = []
    for node in nodes:
        kind = rng.choice(["quiet", "busy", "pauser"], p=[0.6, 0.23, 0.17])
        sent = _send_times(rng, str(kind), min(duration_s, crashes.get(node, np.inf)))
        arrives = sent + _latencies(rng, len(sent), slow=rng.uniform() < 0.3)
        kept = ~_losses(rng, len(sent))
        for start, length, cut in partitions:
            if node in cut:
                kept &= ~((sent >= start) & (sent < start + length))
        raw += [(float(arrives[i]), Heartbeat(node, 1, i, float(sent[i]))) for i in np.flatnonzero(kept).tolist()]
    beats = _queue([beat for beat in raw if beat[0] < duration_s], stalls)
    return Fleet(nodes, 1.0, duration_s, beats, crashes, partitions, stalls)


def _send_times(rng: np.random.Generator, kind: str, until_s: float) -> np.ndarray:
    """A busy node wakes up late by an exponential delay; a pausing one stops for a while, for long ones rarely."""
    steps = np.ones(int(until_s) + 1)
    if kind == "busy":
        steps += np.where(rng.uniform(size=len(steps)) < 0.25, rng.exponential(0.25, len(steps)), 0.0)
    if kind == "pauser":
        pauses = rng.uniform(size=len(steps)) < 0.015
        steps += np.where(pauses, np.minimum(rng.lognormal(-1.0, 1.05, len(steps)), 20.0), 0.0)
    times = float(rng.uniform()) + np.cumsum(steps)
    return times[times < until_s]


def _latencies(rng: np.random.Generator, size: int, *, slow: bool) -> np.ndarray:
    spikes = rng.uniform(size=size) < (0.1 if slow else 0.002)
    return rng.lognormal(-4.8, 0.5, size) + np.where(spikes, rng.exponential(0.35, size), 0.0)


def _losses(rng: np.random.Generator, size: int) -> np.ndarray:
    """Bursts of geometric length (Gilbert 1960), at the rate and length seen in the given trace."""
    lost = np.zeros(size, bool)
    for start in np.flatnonzero(rng.uniform(size=size) < 0.003):
        lost[start : start + rng.geometric(0.86)] = True
    return lost


def _queue(raw: list[tuple[float, Heartbeat]], stalls: list[tuple[float, float]]) -> list[tuple[float, Heartbeat]]:
    """What arrives while the monitor sleeps is read, in order, once it is awake: five milliseconds a beat."""
    beats: list[tuple[float, Heartbeat]] = []
    free_s = 0.0
    for at_s, beat in sorted(raw, key=lambda pair: pair[0]):
        asleep = [start + length for start, length in stalls if start <= at_s < start + length]
        read_s = max([at_s, free_s, *asleep])
        if read_s > at_s:
            free_s = read_s + 0.0005
        beats.append((read_s, beat))
    return sorted(beats, key=lambda pair: pair[0])
