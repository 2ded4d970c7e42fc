"""Watches many streams at once for a change, row by row, with one bound on the false alarms of all together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from platformops.observation.drift.bets import Detector, factors
from platformops.observation.drift.ranks import Pool, luck_of
from platformops.observation.drift.records import Drift, Floats, Kind, Stream

ROWS_PER_FALSE_ALARM = 1_000_000.0
"""At least so many rows pass on average before the first false alarm, of all streams and looks together."""
CHUNK = 250
"""Rows that are ranked together; a matter of speed only."""


class Watch:
    """Feed it rows in the order in which they came."""

    def __init__(
        self,
        streams: Sequence[Stream],
        reference: Floats,
        *,
        rows_per_false_alarm: float = ROWS_PER_FALSE_ALARM,
        seed: int = 0,
    ) -> None:
        """`reference` has a row an observation and a column a stream; NaN where a stream has no value.

        Reference and later rows must be exchangeable while nothing changes: a reference of one night is not what a
        whole day is like, and the day is then found to be different, rightly.
        """
        self.streams = tuple(streams)
        self._pools = [Pool(reference[:, i]) for i in range(len(self.streams))]
        self._detector = Detector(_weights(self.streams))
        self._threshold = math.log(rows_per_false_alarm)
        self._seed = seed
        self._rows = 0

    @property
    def rows(self) -> int:
        """Seen so far, the reference not counted."""
        return self._rows

    def observe(self, values: Floats) -> tuple[Drift, ...]:
        """The changes that these rows confirm; after each the evidence starts from nothing."""
        found = [drift for at in range(0, len(values), CHUNK) for drift in self._chunk(values[at : at + CHUNK])]
        return tuple(found)

    def evidence(self) -> dict[str, float]:
        """Log evidence of each stream by itself."""
        each = self._detector.evidence()
        return {stream.name: float(each[i]) for i, stream in enumerate(self.streams)}

    def _chunk(self, values: Floats) -> list[Drift]:
        ranks = self._ranks(values)
        multiplied, seen = factors(ranks), np.isfinite(ranks).astype(np.float64)
        found = []
        for row in range(len(values)):
            total = self._detector.add(multiplied[row], seen[row])
            self._rows += 1
            if total >= self._threshold:
                found.append(self._confirmed(total))
                self._detector.reset()
        return found

    def _ranks(self, values: Floats) -> Floats:
        ranks = np.full(values.shape, np.nan)
        rows = np.arange(self._rows, self._rows + len(values)).astype(np.uint64)
        for i, pool in enumerate(self._pools):
            there = np.isfinite(values[:, i])
            if there.any():
                ranks[there, i] = pool.ranks(values[there, i], luck_of(self._seed, rows[there], i))
        return ranks

    def _confirmed(self, total: float) -> Drift:
        stream, since, _ = self._detector.strongest()
        return Drift(self.streams[stream], self._rows, since, total, self._threshold)


def _weights(streams: Sequence[Stream]) -> Floats:
    """Kinds share alike, and the streams of a kind by their shares: ten thousand inputs do not drown one error rate."""
    kinds: dict[Kind, float] = {}
    for stream in streams:
        kinds[stream.kind] = kinds.get(stream.kind, 0.0) + stream.share
    return np.array([s.share / kinds[s.kind] / len(kinds) for s in streams])
