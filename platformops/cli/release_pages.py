"""Gathers what a page on a release shows: its rollout, what was decided, and what was counted of either side."""

from __future__ import annotations

from platformops.delivery.decisions import explain
from platformops.delivery.evidence import Tally, latency_ms
from platformops.delivery.records import Rollout
from platformops.delivery.systems import load_ledger, load_rollout
from platformops.errors import UserError
from platformops.observation.release_page import Side, render
from platformops.spec.echo import shown
from platformops.store.records import Store

MOST_DECISIONS = 200


def page_of(store: Store, subject: str) -> str:
    """The page of the rollout of that name. Raises UserError for anything else."""
    system, _, number = subject.partition(":rollout-")
    rollout = load_rollout(store, system, int(number)) if number.isascii() and number.isdigit() else None
    if rollout is None:
        raise UserError(f"{shown(subject)} is no rollout", remedy="name one, such as digits:rollout-2")
    return render(rollout, explain(store, rollout.name, limit=MOST_DECISIONS), _sides(store, rollout))


def _sides(store: Store, rollout: Rollout) -> list[Side]:
    ledger, _ = load_ledger(store, rollout)
    if ledger is None:
        return []
    return [_side(name, ledger.of(name)) for name in (ledger.candidate, ledger.stable) if name]


def _side(name: str, seen: Tally) -> Side:
    latencies = [(latency_ms(bucket), count) for bucket, count in sorted(seen.latencies.items())]
    return Side(name, seen.requests, seen.copies, seen.failures, seen.labelled, seen.wrong, latencies)
