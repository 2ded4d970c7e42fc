"""The running account of one release: what was seen, and the bets that its outcomes won or lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from platformops.delivery.contrast import EMPTY, NO_EVIDENCE, Block, bet, joined
from platformops.delivery.evidence import (
    NOTHING,
    UNKNOWN_NODE,
    ByNode,
    ByRevision,
    Tallies,
    Tally,
    minus,
    plus,
    quantile,
    slower_than,
    total,
)

ACROSS = "*"
"""The stratum of nodes that only one of the two revisions runs on."""
WITHIN, BEYOND, SAFE = "within", "across", "safe"
"""Bets on harm seen between revisions on one node, and across nodes; and bets that there is no harm."""
MIN_TO_COMPARE = 20
"""Observations of stable before its quantiles are good for a threshold."""
QUANTILES = {"latency": 0.5, "tail": 0.9}
PRIOR_FAILURES, PRIOR_TRIALS = 0.5, 50.0
"""What is assumed of stable before it was seen; wrong assumptions cost power, never validity."""

Logs = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What a bet compares."""

    latency_buckets: int
    """The candidate may be slower by so many without being harmful."""
    margin_buckets: int
    """It is proven harmless when it is slower by fewer than this."""
    slo_bucket: int


@dataclass(frozen=True, slots=True)
class Pending:
    """Seen in a stratum and not yet bet on, as one of the sides has nothing to compare with."""

    candidate: Tally = NOTHING
    stable: Tally = NOTHING


@dataclass(frozen=True, slots=True)
class Ledger:
    """Of one rollout, kept beside it; any controller goes on from it."""

    candidate: str
    stable: str
    since: float
    """When it was opened, in seconds since the epoch."""
    at: float
    """When something was last added."""
    seen: Mapping[str, ByRevision] = field(default_factory=dict)
    """By gateway: its counts when they were last added."""
    totals: ByRevision = field(default_factory=dict)
    bets: Mapping[str, Logs] = field(default_factory=dict)
    """`errors.within` -> logarithms of one e-process an effect."""
    baseline: Tally = NOTHING
    """What was seen of stable in all that was bet on: rates and thresholds of the next bet come from it."""
    slower: Block = EMPTY
    """Calls that took longer than stable's median did before, of the candidate and of stable."""
    pending: Mapping[str, Pending] = field(default_factory=dict)
    """By stratum."""

    def of(self, revision: str) -> Tally:
        """All that was seen of a revision, on any node."""
        return total(self.totals.get(revision, {}).values())


def opened(candidate: str, stable: str, gateways: Iterable[Tallies], now: float) -> Ledger:
    """An account that counts from now on; what the gateways counted before does not belong to it."""
    seen = {tallies.source: _of(tallies, candidate, stable) for tallies in gateways}
    return Ledger(candidate, stable, now, now, seen)


def added(ledger: Ledger, gateways: Iterable[Tallies], tolerances: Tolerances, now: float) -> Ledger:
    """The account with what came since it was last written; the same one when nothing did."""
    fresh: dict[str, dict[str, Tally]] = {ledger.candidate: {}, ledger.stable: {}}
    seen = dict(ledger.seen)
    for tallies in gateways:
        counted = _of(tallies, ledger.candidate, ledger.stable)
        if counted == seen.get(tallies.source, {}):
            continue
        for revision, nodes in counted.items():
            before = seen.get(tallies.source, {}).get(revision, {})
            for node, tally in nodes.items():
                fresh[revision][node] = plus(
                    fresh[revision].get(node, NOTHING), minus(tally, before.get(node, NOTHING))
                )
        seen[tallies.source] = counted
    if not any(fresh.values()):
        return ledger
    known = {revision: _placed(nodes, ledger.totals, revision) for revision, nodes in fresh.items()}
    totals = {r: _merged(ledger.totals.get(r, {}), nodes) for r, nodes in known.items()}
    waiting = _waiting(ledger.pending, known[ledger.candidate], known[ledger.stable], _shared(ledger, totals))
    return replace(_settled(ledger, waiting, tolerances), at=now, seen=seen, totals=totals)


def _of(tallies: Tallies, *revisions: str) -> ByRevision:
    return {r: tallies.revisions[r] for r in revisions if r in tallies.revisions}


def _merged(first: ByNode, second: ByNode) -> ByNode:
    return {**first, **{node: plus(first.get(node, NOTHING), tally) for node, tally in second.items()}}


def _placed(nodes: Mapping[str, Tally], totals: ByRevision, revision: str) -> ByNode:
    """A request that never came back names no node: it is put down to where most of the revision's requests went."""
    lost = nodes.get(UNKNOWN_NODE)
    if lost is None:
        return nodes
    known = {n: t.trials for r in (revision, *totals) for n, t in totals.get(r, {}).items() if n != UNKNOWN_NODE}
    own = {n: t.trials for n, t in {**totals.get(revision, {}), **nodes}.items() if n != UNKNOWN_NODE}
    likely = max(own or known, key=lambda n: ((own or known)[n], n), default=UNKNOWN_NODE)
    rest = {node: tally for node, tally in nodes.items() if node != UNKNOWN_NODE}
    return {**rest, likely: plus(rest.get(likely, NOTHING), lost)}


def _shared(ledger: Ledger, totals: ByRevision) -> set[str]:
    """Nodes on which both revisions were seen, so that a node's own trouble cancels out."""
    return set.intersection(
        *({n for n, t in totals.get(r, {}).items() if t.trials} for r in (ledger.candidate, ledger.stable))
    )


def _waiting(
    pending: Mapping[str, Pending], candidate: ByNode, stable: ByNode, shared: set[str]
) -> Mapping[str, Pending]:
    waiting = dict(pending)
    for node, tally in candidate.items():
        stratum = node if node in shared else ACROSS
        present = waiting.get(stratum, Pending())
        waiting[stratum] = replace(present, candidate=plus(present.candidate, tally))
    for node, tally in stable.items():
        stratum = node if node in shared else ACROSS
        present = waiting.get(stratum, Pending())
        waiting[stratum] = replace(present, stable=plus(present.stable, tally))
    return waiting


def _settled(ledger: Ledger, waiting: Mapping[str, Pending], tolerances: Tolerances) -> Ledger:
    """Every stratum in which both sides have something is bet on; the others go on waiting."""
    ready = {s: both for s, both in sorted(waiting.items()) if both.candidate.trials and both.stable.trials}
    bets, slower = dict(ledger.bets), ledger.slower
    for stratum, both in ready.items():
        _bet_on(bets, both, ledger.baseline, tolerances, BEYOND if stratum == ACROSS else WITHIN)
        slower = joined(slower, _slower_than_median(both, ledger.baseline, tolerances))
    baseline = total([ledger.baseline, *(both.stable for both in ready.values())])
    rest = {stratum: both for stratum, both in waiting.items() if stratum not in ready}
    return replace(ledger, bets=bets, slower=slower, baseline=baseline, pending=rest)


def _bet_on(bets: dict[str, Logs], both: Pending, baseline: Tally, tolerances: Tolerances, where: str) -> None:
    """Thresholds and rates come from `baseline`, which is what was known before."""
    a, b = both.candidate, both.stable

    def harm(guard: str, block: Block, rate: float) -> None:
        name = f"{guard}.{where}"
        bets[name] = bet(bets.get(name, NO_EVIDENCE), block, rate, is_worse=True)

    harm("errors", Block(a.trials, a.failures, b.trials, b.failures), _rate(baseline.failures, baseline.trials))
    harm("quality", Block(a.labelled, a.wrong, b.labelled, b.wrong), _rate(baseline.wrong, baseline.labelled))
    slo = tolerances.slo_bucket
    known = sum(baseline.latencies.values())
    harm("slo", _slower(both, slo, slo), _rate(slower_than(baseline.latencies, slo), known))
    if known < MIN_TO_COMPARE:
        return
    for guard, q in QUANTILES.items():
        threshold = quantile(baseline.latencies, q)
        assert threshold is not None, "of more than nothing"
        rate = min(0.99, max(0.01, slower_than(baseline.latencies, threshold) / known))
        harm(guard, _slower(both, threshold + tolerances.latency_buckets, threshold), rate)
        safe = f"{guard}.{SAFE}"
        shifted = _slower(both, threshold + tolerances.margin_buckets, threshold)
        bets[safe] = bet(bets.get(safe, NO_EVIDENCE), shifted, rate, is_worse=False)


def _slower_than_median(both: Pending, baseline: Tally, tolerances: Tolerances) -> Block:
    if sum(baseline.latencies.values()) < MIN_TO_COMPARE:
        return EMPTY
    median = quantile(baseline.latencies, 0.5)
    assert median is not None, "of more than nothing"
    return _slower(both, median + tolerances.latency_buckets, median)


def _slower(both: Pending, own: int, other: int) -> Block:
    a, b = both.candidate.latencies, both.stable.latencies
    return Block(sum(a.values()), slower_than(a, own), sum(b.values()), slower_than(b, other))


def _rate(failures: int, trials: int) -> float:
    return min(0.9, (failures + PRIOR_FAILURES) / (trials + PRIOR_TRIALS))
