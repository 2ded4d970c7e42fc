"""A log of who asked for what, each entry chained to the one before by its digest, so that a change to it shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from platformops.store.records import ABSENT, Entry, JsonObject, Put, Store, numbered

STORED_UNDER = "audit/"
_START = "0" * 64


@dataclass(frozen=True, slots=True)
class Audited:
    what: str
    who: str
    outcome: str
    """`accepted` or `refused`."""
    reason: str
    at: float


def audit_put(store: Store, audited: Audited) -> Put:
    """The write that appends an entry; of two writers of one number the second gets a StoreConflict."""
    newest = store.scan(STORED_UNDER, limit=1, descending=True)
    number = int(newest[0].key.removeprefix(STORED_UNDER)) + 1 if newest else 1
    before = str(newest[0].value.get("digest")) if newest else _START
    record: JsonObject = {
        "what": audited.what, "who": audited.who, "outcome": audited.outcome, "reason": audited.reason,
        "at": audited.at, "before": before,
    }  # fmt: skip
    return Put(f"{STORED_UNDER}{numbered(number)}", {**record, "digest": _digest(record)}, expect=ABSENT)


def broken_link(oldest_first: Sequence[Entry]) -> str | None:
    """The key of the first entry that is not as it was written, or before which one is missing; None when all are."""
    before = _START
    for number, entry in enumerate(oldest_first, start=1):
        record = {name: value for name, value in entry.value.items() if name != "digest"}
        is_next = entry.key == f"{STORED_UNDER}{numbered(number)}" and record.get("before") == before
        if not is_next or entry.value.get("digest") != _digest(record):
            return entry.key
        before = str(entry.value["digest"])
    return None


def _digest(record: JsonObject) -> str:
    return sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
