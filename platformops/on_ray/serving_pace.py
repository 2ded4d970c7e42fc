"""How long calls of each revision take on each node now, from what the gateways have counted since the last look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from platformops.delivery.evidence import Tallies, latency_ms, quantile

FEWEST_CALLS = 20
"""Between two looks: of fewer, the median says more of which requests came."""

Latencies = Mapping[int, int]


class ServingPace:
    """Give it the counts of all gateways every few seconds; one thread."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str, str], Latencies] = {}

    def look(self, gateways: Iterable[Tallies]) -> Mapping[str, Mapping[str, float]]:
        """Revision -> node -> median seconds of its calls since the last look, where there were enough of them."""
        now = {
            (tallies.source, revision, node): tally.latencies
            for tallies in gateways
            for revision, nodes in tallies.revisions.items()
            for node, tally in nodes.items()
            if node
        }
        fresh: dict[tuple[str, str], dict[int, int]] = {}
        for (source, revision, node), latencies in now.items():
            before = self._before.get((source, revision, node), {})
            sums = fresh.setdefault((revision, node), {})
            for bucket, count in latencies.items():
                sums[bucket] = sums.get(bucket, 0) + count - before.get(bucket, 0)
        self._before = now
        found: dict[str, dict[str, float]] = {}
        for (revision, node), counts in fresh.items():
            median = quantile(counts, 0.5)
            if median is not None and sum(counts.values()) >= FEWEST_CALLS:
                found.setdefault(revision, {})[node] = latency_ms(median) / 1000.0
        return found
