"""The watch over a version after its promotion: harm that begins later sends it back, or raises an alarm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from platformops.delivery.evidence import NOTHING, ByNode, Tallies, Tally, minus, plus, total
from platformops.delivery.ledger import Ledger
from platformops.delivery.missing import duration_text
from platformops.delivery.orders import going_back
from platformops.delivery.records import GateResult, Rollout, RolloutKind, RolloutState
from platformops.delivery.sequential import EFFECTS, mixture, upper_bound
from platformops.delivery.terms import Terms

WEIGHTS: Mapping[str, float] = {"errors": 0.5, "quality": 0.3, "memory": 0.2}
"""Shares of the one error probability of a watch. Latency is left out: there is nothing beside the version any more
that tells its own slowness from that of a busy hour."""
FEWEST = 100
"""Trials in its release from which a version's own share is known well enough to be held to it."""
FEWEST_LABELS = 30
BASELINE_ALPHA = 0.01
LEAST_GROWTH = 0.2
"""Of memory, since the process settled: a smaller rise harms nobody within the watch."""
WRITE_EVERY_S = 5.0
"""What was counted meanwhile is counted again by whoever goes on."""
MOSTLY = 0.8
"""Of all failures: when so many sit on one of several nodes, and the others are well, the machine is at fault."""

Logs = tuple[float, ...]
NO_START: Logs = (-math.inf,) * len(EFFECTS)


@dataclass(frozen=True, slots=True)
class Watch:
    """The account of one promoted revision; any controller goes on from it."""

    revision: str
    since: float
    """In seconds since the epoch, like `at`."""
    at: float
    """When something was last added."""
    limits: Mapping[str, float]
    """By guard: the share of failures that is still no harm."""
    seen: Mapping[str, ByNode] = field(default_factory=dict)
    """By gateway: its counts when they were last added."""
    totals: ByNode = field(default_factory=dict)
    detectors: Mapping[str, Logs] = field(default_factory=dict)
    """By guard: logarithms of one e-process an effect, of harm that begins at an unknown instant of the watch."""
    alarm: str = ""
    """What was found where the spec wants no rollback; nothing more is said then."""


@dataclass(frozen=True, slots=True)
class Found:
    """Harm that began after promotion."""

    result: GateResult
    node: str = ""
    """Where all of it sits, while the others are well."""


def is_watched(brought: Rollout | None, newest: Rollout | None, now: float) -> bool:
    """Whether the release `brought` that made a version stable is still watched, `newest` being the last rollout. What
    a person or a watch went back to is not, or two versions that suffer from one cause would send each other back."""
    if brought is None or newest is None or newest.kind is RolloutKind.ROLLBACK:
        return False
    is_promoted = brought.state is RolloutState.PROMOTED and brought.kind is RolloutKind.RELEASE
    return is_promoted and now - brought.changed_at <= brought.terms.watch_s


def begun(brought: Rollout, ledger: Ledger | None, gateways: Iterable[Tallies], now: float) -> Watch:
    """A watch from now on, with limits from what the version did while it was released."""
    name = brought.candidate.name
    known = ledger.of(name) if ledger is not None else NOTHING
    seen = {tallies.source: _plain(tallies.revisions.get(name, {})) for tallies in gateways}
    return Watch(name, now, now, _limits(known, brought.terms), seen)


def _limits(known: Tally, terms: Terms) -> Mapping[str, float]:
    """Shares beyond which there is harm: the version's own, as far as it may be, and the margin of the release. One
    that had no traffic beside another is held to twice the margin."""
    own = terms.errors_margin
    if known.trials >= FEWEST:
        own = upper_bound(known.failures, known.trials, BASELINE_ALPHA)
    limits = {"errors": min(0.9, own + terms.errors_margin)}
    if known.labelled >= FEWEST_LABELS:
        wrong = upper_bound(known.wrong, known.labelled, BASELINE_ALPHA)
        limits["quality"] = min(0.95, wrong + terms.quality_margin)
    return limits


def added(watch: Watch, gateways: Iterable[Tallies], terms: Terms, now: float) -> Watch:
    """The account with what came since it was last written; the same one when nothing did."""
    seen, fresh = dict(watch.seen), dict[str, Tally]()
    for tallies in gateways:
        counted = _plain(tallies.revisions.get(watch.revision, {}))
        before = seen.get(tallies.source, {})
        if counted == before:
            continue
        for node, tally in counted.items():
            fresh[node] = plus(fresh.get(node, NOTHING), minus(tally, before.get(node, NOTHING)))
        seen[tallies.source] = counted
    if not fresh:
        return watch
    new, begins = total(fresh.values()), math.log(max(now - watch.at, 1e-3) / terms.watch_s)
    outcomes = {"errors": (new.failures, new.trials), "quality": (new.wrong, new.labelled)}
    detectors = {
        guard: _detected(watch.detectors.get(guard, NO_START), *outcomes[guard], limit, begins)
        for guard, limit in watch.limits.items()
    }
    totals = {**watch.totals, **{node: plus(watch.totals.get(node, NOTHING), t) for node, t in fresh.items()}}
    return replace(watch, at=now, seen=seen, totals=totals, detectors=detectors)


def _detected(logs: Logs, failures: int, trials: int, limit: float, begins: float) -> Logs:
    """One e-process an effect, each a mixture over the instant at which harm begins, uniform over the watch.

    What is bet in each interval starts anew with that interval's share of the watch, so that hours without harm cost a
    constant instead of growing evidence against it: the e-detector of Shin, Ramdas and Rinaldo (2023, "E-detectors: a
    nonparametric framework for sequential change detection", NEJSDS 2), its starts weighted to sum to 1, for which
    Ville's inequality holds as for any e-process.
    """
    return tuple(
        _sum(log, begins) + d * failures - trials * math.log1p(limit * math.expm1(d))
        for log, d in zip(logs, EFFECTS, strict=True)
    )


def _sum(log: float, other: float) -> float:
    high, low = max(log, other), min(log, other)
    return high + math.log1p(math.exp(low - high))


def found(watch: Watch, terms: Terms) -> Found | None:
    """The harm that is known by now; None while none is."""
    seen = total(watch.totals.values())
    evidence = {guard: mixture(logs) for guard, logs in watch.detectors.items() if not math.isinf(min(logs))}
    leak = max(seen.memory.values(), key=lambda m: m.log_e, default=None)
    if leak is not None and leak.growth_ratio > LEAST_GROWTH:
        evidence["memory"] = leak.log_e
    for guard, log_e in evidence.items():
        if log_e >= math.log(1 / (WEIGHTS[guard] * terms.false_alarm_ratio)):
            return Found(_result(guard, seen, watch), _node(watch) if guard == "errors" else "")
    return None


def _result(guard: str, seen: Tally, watch: Watch) -> GateResult:
    counts = {"errors": (seen.failures, seen.trials), "quality": (seen.wrong, seen.labelled)}
    for_s = duration_text(watch.at - watch.since)
    if guard == "memory":
        grown = max(m.growth_ratio for m in seen.memory.values())
        reason = f"memory has grown by {grown:.0%} without end since it settled"
        return GateResult(guard, False, reason, {"growth_ratio": round(grown, 4)}, "a level that it keeps")
    failed, trials = counts[guard]
    limit = watch.limits[guard]
    what = "failed" if guard == "errors" else "were wrong"
    reason = f"{failed:,} of {trials:,} {what} in {for_s} of its watch, and lately more than the {limit:.2%} it may"
    return GateResult(
        guard, False, reason, {"failures": failed, "trials": trials, "limit": limit}, f"below {limit:.2%}"
    )


def _node(watch: Watch) -> str:
    """The one node of several that nearly all failures come from, while the others are within the limit."""
    asked = {node: tally for node, tally in watch.totals.items() if tally.trials}
    if len(asked) < 2:
        return ""
    worst = max(asked, key=lambda node: (asked[node].failures, node))
    rest = total(tally for node, tally in asked.items() if node != worst)
    is_alone = asked[worst].failures >= MOSTLY * (asked[worst].failures + rest.failures)
    return worst if is_alone and rest.failures <= watch.limits["errors"] * rest.trials else ""


def sent_back(brought: Rollout, newest: Rollout, found: Found, now: float) -> Rollout | None:
    """The rollback that follows; None where the spec wants an alarm, nothing came before, or a machine is at fault."""
    if brought.stable is None or not brought.terms.rolls_back or found.node:
        return None
    why = f"{brought.candidate.version_name} went bad after its promotion ({found.result.reason}); going back"
    return replace(going_back(brought.candidate, brought.stable, newest, why, now), gates=(found.result,))


def alarm_of(brought: Rollout, found: Found) -> str:
    """What people are told where nothing is done."""
    why_not = "release.on_degrade is alarm"
    if brought.stable is None:
        why_not = "there is no earlier version to go back to"
    if found.node:
        why_not = f"nearly all of it is on node {found.node}, so it is no verdict on the model"
    return f"{brought.candidate.version_name} went bad after its promotion: {found.result.reason}; {why_not}"


def is_due(watch: Watch, stored: Watch | None, *, is_news: bool) -> bool:
    """Whether the account is worth a write now."""
    return stored is None or is_news or (watch is not stored and watch.at - stored.at >= WRITE_EVERY_S)


def _plain(nodes: ByNode) -> ByNode:
    """Latencies and copies are no part of a watch."""
    names: Sequence[str] = ("requests", "copies", "failures", "labelled", "wrong")
    return {
        node: Tally(**{name: getattr(tally, name) for name in names}, memory=tally.memory)
        for node, tally in nodes.items()
    }
