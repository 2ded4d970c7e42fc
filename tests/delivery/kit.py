"""Traffic of two revisions on some nodes, as the gateway would count it."""

from dataclasses import dataclass, field

import numpy as np

from platformops.delivery.evidence import NOTHING, Memory, Tallies, Tally, bucket_of, plus
from platformops.delivery.ledger import added, opened
from platformops.delivery.terms import Terms
from platformops.delivery.verdict import Finding, judge

CANDIDATE, STABLE = "img-r2", "img-r1"


@dataclass
class Behaviour:
    errors: float = 0.001
    median_ms: float = 10.0
    spread: float = 0.5
    disagreement: float = 0.0
    wrong: tuple[float, float] = (0.0, 0.0)
    """Of labelled copies: only it wrong, only stable wrong."""


def seen(luck, n, behaviour, *, copies=False, labelled=0):
    """What the gateway counts of `n` requests."""
    times = behaviour.median_ms * np.exp(behaviour.spread * luck.standard_normal(n))
    buckets, counts = np.unique([bucket_of(t) for t in times], return_counts=True)
    own, other, _ = luck.multinomial(labelled, [*behaviour.wrong, 1 - sum(behaviour.wrong)])
    return Tally(
        requests=0 if copies else n,
        copies=n if copies else 0,
        failures=int(luck.binomial(n, behaviour.errors)),
        latencies=dict(zip(buckets.tolist(), counts.tolist(), strict=True)),
        compared=n if copies else 0,
        disagreements=int(luck.binomial(n, behaviour.disagreement)) if copies else 0,
        pairs=labelled,
        only_own_wrong=int(own),
        only_other_wrong=int(other),
    )


@dataclass
class Traffic:
    """A gateway that counts, and the account that follows it."""

    terms: Terms = field(default_factory=Terms)
    expected: float | None = 0.02
    seed: int = 0

    def __post_init__(self):
        self.luck = np.random.default_rng(self.seed)
        self.counted = {CANDIDATE: {}, STABLE: {}}
        self.now = 0.0
        self.ledger = opened(CANDIDATE, STABLE, [self.gateway()], self.now)

    def gateway(self):
        return Tallies("gw", {r: dict(nodes) for r, nodes in self.counted.items()})

    def count(self, revision, tally, node="n1"):
        self.counted[revision][node] = plus(self.counted[revision].get(node, NOTHING), tally)

    def look(self, seconds=1.0):
        self.now += seconds
        self.ledger = added(self.ledger, [self.gateway()], self.terms.tolerances, self.now)
        return self.judgement

    @property
    def judgement(self):
        return judge(self.ledger, self.terms, self.expected)

    def shadow(self, candidate, stable=Behaviour(), *, looks=400, batch=20, node="n1", labelled=0):  # noqa: B008
        """Copies of all requests to the candidate, until the verdict; the copies it took."""
        for _ in range(looks):
            self.count(CANDIDATE, seen(self.luck, batch, candidate, copies=True, labelled=labelled), node)
            self.count(STABLE, seen(self.luck, batch, stable), node)
            if self.look().finding is not Finding.OPEN:
                break
        return self.ledger.of(CANDIDATE).copies


def memory(levels):
    from platformops.delivery.evidence import remembered

    kept = Memory()
    for level in levels:
        kept = remembered(kept, int(level))
    return kept
