"""What was seen of one revision on one node: bounded counts that add up over gateways, time and nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace

from platformops.delivery.sequential import LEAK_RATES, mixture, record_log_odds

BUCKETS_PER_OCTAVE = 16
"""Neighbouring latency buckets differ by 4.4 %."""
SHORTEST_MS = 0.05
LONGEST_BUCKET = BUCKETS_PER_OCTAVE * 22
"""About 200 s; what takes longer is counted here."""
LEAST_GROWTH = 0.002
"""Of the level a process settled at: a smaller rise is no record, as allocators never quite rest."""
MEMORY_WARM_UP = 3
"""Samples before a process is judged: its first requests allocate what it then keeps."""

UNKNOWN_NODE = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of one replica: how often it set a record tells a leak from a level."""

    samples: int = 0
    bytes: int = 0
    settled_bytes: int = 0
    """After the warm-up."""
    peak_bytes: int = 0
    log_odds: tuple[float, ...] = (0.0,) * len(LEAK_RATES)
    """Logarithms of one e-process a leak rate."""

    @property
    def log_e(self) -> float:
        """Log evidence that it rises without end."""
        return mixture(self.log_odds)

    @property
    def growth_ratio(self) -> float:
        return self.bytes / self.settled_bytes - 1 if self.settled_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one revision on one node since the counting began. Each only rises."""

    requests: int = 0
    """Of users, that this revision was asked to answer."""
    copies: int = 0
    """Of requests that another revision answered."""
    failures: int = 0
    """Of requests and copies: errors of the revision and deadlines that it missed, not inputs that nobody can read."""
    deadlines: int = 0
    """Of failures."""
    latencies: Mapping[int, int] = field(default_factory=dict)
    """Bucket -> calls of users, one request each, beside which no copy ran."""
    compared: int = 0
    """Copies that both revisions answered."""
    disagreements: int = 0
    """Of compared: with other labels."""
    labelled: int = 0
    """Answers of which the truth became known."""
    wrong: int = 0
    pairs: int = 0
    """Copies of which the truth became known, so that both revisions can be judged on one input."""
    only_own_wrong: int = 0
    only_other_wrong: int = 0
    memory: Mapping[str, Memory] = field(default_factory=dict)
    """By replica."""

    @property
    def trials(self) -> int:
        return self.requests + self.copies


NOTHING = Tally()
COUNTS = tuple(f.name for f in fields(Tally) if f.name not in ("latencies", "memory"))
ByNode = Mapping[str, Tally]
ByRevision = Mapping[str, ByNode]


@dataclass(frozen=True, slots=True)
class Tallies:
    """All that one gateway process counted since it started."""

    source: str
    """Of this life of the gateway: its counts begin at zero."""
    revisions: ByRevision


def bucket_of(latency_ms: float) -> int:
    """The bucket of a latency; the higher, the slower."""
    if latency_ms <= SHORTEST_MS:
        return 0
    return min(LONGEST_BUCKET, math.ceil(BUCKETS_PER_OCTAVE * math.log2(latency_ms / SHORTEST_MS)))


def latency_ms(bucket: int) -> float:
    """The upper edge of a bucket."""
    return SHORTEST_MS * 2 ** (bucket / BUCKETS_PER_OCTAVE)


def buckets_in(ratio: float) -> int:
    """How many buckets slower a latency is that is longer by `ratio`, rounded down."""
    return int(BUCKETS_PER_OCTAVE * math.log2(1 + ratio) + 1e-9)


def slower_than(latencies: Mapping[int, int], bucket: int) -> int:
    return sum(count for b, count in latencies.items() if b > bucket)


def quantile(latencies: Mapping[int, int], q: float) -> int | None:
    """The bucket that holds the `q` quantile; None of nothing."""
    left = q * sum(latencies.values())
    for bucket in sorted(latencies):
        left -= latencies[bucket]
        if left <= 0:
            return bucket
    return None


def plus(first: Tally, second: Tally) -> Tally:
    """Both together; of a replica's memory, what was seen last."""
    if first is NOTHING:
        return second
    latencies = dict(first.latencies)
    for bucket, count in second.latencies.items():
        latencies[bucket] = latencies.get(bucket, 0) + count
    counts = {name: getattr(first, name) + getattr(second, name) for name in COUNTS}
    memory = {**first.memory, **{r: m for r, m in second.memory.items() if not _is_older(m, first.memory.get(r))}}
    return Tally(**counts, latencies=latencies, memory=memory)


def _is_older(memory: Memory, present: Memory | None) -> bool:
    return present is not None and memory.samples < present.samples


def minus(now: Tally, before: Tally) -> Tally:
    """What came since `before`; memory as it is now. Counts that fell were begun anew, as those of a revision are that
    Serve did not tell of for a moment."""
    if any(getattr(now, name) < getattr(before, name) for name in COUNTS):
        return now
    latencies = {b: n - before.latencies.get(b, 0) for b, n in now.latencies.items()}
    counts = {name: getattr(now, name) - getattr(before, name) for name in COUNTS}
    return Tally(**counts, latencies={b: n for b, n in latencies.items() if n}, memory=now.memory)


def total(tallies: Iterable[Tally]) -> Tally:
    result = NOTHING
    for tally in tallies:
        result = plus(result, tally)
    return result


def remembered(memory: Memory, resident_bytes: int) -> Memory:
    """The record of a replica after one more sample of its memory."""
    samples = memory.samples + 1
    if samples <= MEMORY_WARM_UP:
        return Memory(samples, resident_bytes, resident_bytes, max(memory.peak_bytes, resident_bytes))
    is_record = resident_bytes > memory.peak_bytes + LEAST_GROWTH * memory.settled_bytes
    judged = samples - MEMORY_WARM_UP + 1
    return replace(
        memory,
        samples=samples,
        bytes=resident_bytes,
        peak_bytes=resident_bytes if is_record else memory.peak_bytes,
        log_odds=tuple(
            sum(both) for both in zip(memory.log_odds, record_log_odds(judged, is_record=is_record), strict=True)
        ),
    )
