"""The account of a release as one JSON document, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields

from platformops.delivery.contrast import Block
from platformops.delivery.evidence import COUNTS, ByNode, ByRevision, Memory, Tally
from platformops.delivery.ledger import Ledger, Pending
from platformops.errors import StoreError
from platformops.store.records import Json, JsonObject

_WHOLE = tuple(f.name for f in fields(Memory) if f.name != "log_odds")


def ledger_json(ledger: Ledger) -> JsonObject:
    return {
        "candidate": ledger.candidate,
        "stable": ledger.stable,
        "since": ledger.since,
        "at": ledger.at,
        "seen": {source: _revisions_json(revisions) for source, revisions in ledger.seen.items()},
        "totals": _revisions_json(ledger.totals),
        "bets": {name: list(logs) for name, logs in ledger.bets.items()},
        "baseline": tally_json(ledger.baseline),
        "slower": asdict(ledger.slower),
        "pending": {
            stratum: {"candidate": tally_json(both.candidate), "stable": tally_json(both.stable)}
            for stratum, both in ledger.pending.items()
        },
    }


def ledger_from(doc: JsonObject) -> Ledger:
    """Raises StoreError for what is not an account."""
    try:
        return Ledger(
            candidate=str(doc["candidate"]),
            stable=str(doc["stable"]),
            since=number(doc["since"]),
            at=number(doc["at"]),
            seen={source: _revisions_from(r) for source, r in mapping(doc["seen"]).items()},
            totals=_revisions_from(doc["totals"]),
            bets={name: numbers(logs) for name, logs in mapping(doc["bets"]).items()},
            baseline=tally_from(doc["baseline"]),
            slower=Block(**{name: int(number(n)) for name, n in mapping(doc["slower"]).items()}),
            pending={s: _pending_from(mapping(both)) for s, both in mapping(doc["pending"]).items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"a stored account of a release cannot be read: {error!r:.80}",
            remedy="it was written by another version of platformops, or changed by hand",
        ) from error


def tally_json(tally: Tally) -> JsonObject:
    """Zeros are left out, as most counts are; latencies are one text, as they are written twice a second."""
    counts: dict[str, Json] = {name: n for name in COUNTS if (n := getattr(tally, name))}
    if tally.latencies:
        counts["latencies"] = " ".join(f"{bucket}:{count}" for bucket, count in tally.latencies.items())
    if tally.memory:
        counts["memory"] = {
            replica: {**asdict(memory), "log_odds": list(memory.log_odds)} for replica, memory in tally.memory.items()
        }
    return counts


def tally_from(value: Json) -> Tally:
    doc = mapping(value)
    counts = {name: int(number(doc[name])) for name in COUNTS if name in doc}
    pairs = (pair.split(":") for pair in str(doc.get("latencies", "")).split())
    latencies = {int(bucket): int(count) for bucket, count in pairs}
    memory = {replica: _memory_from(m) for replica, m in mapping(doc.get("memory", {})).items()}
    return Tally(**counts, latencies=latencies, memory=memory)


def _memory_from(value: Json) -> Memory:
    doc = mapping(value)
    whole = {name: int(number(doc[name])) for name in _WHOLE}
    return Memory(**whole, log_odds=numbers(doc["log_odds"]))


def _revisions_json(revisions: ByRevision) -> JsonObject:
    return {revision: nodes_json(nodes) for revision, nodes in revisions.items()}


def nodes_json(nodes: ByNode) -> JsonObject:
    return {node: tally_json(tally) for node, tally in nodes.items()}


def _revisions_from(value: Json) -> ByRevision:
    return {revision: nodes_from(nodes) for revision, nodes in mapping(value).items()}


def nodes_from(value: Json) -> ByNode:
    return {node: tally_from(tally) for node, tally in mapping(value).items()}


def _pending_from(doc: JsonObject) -> Pending:
    return Pending(tally_from(doc["candidate"]), tally_from(doc["stable"]))


def mapping(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r:.40} is no object")
    return value


def numbers(value: Json) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r:.40} is no list")
    return tuple(number(n) for n in value)


def number(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.40} is no number")
    return value
