"""The account of a watch as one JSON document, and back."""

from __future__ import annotations

from platformops.delivery.ledger_documents import mapping, nodes_from, nodes_json, number, numbers
from platformops.delivery.watching import Watch
from platformops.errors import StoreError
from platformops.store.records import JsonObject


def watch_json(watch: Watch) -> JsonObject:
    return {
        "revision": watch.revision,
        "since": watch.since,
        "at": watch.at,
        "limits": dict(watch.limits),
        "seen": {source: nodes_json(nodes) for source, nodes in watch.seen.items()},
        "totals": nodes_json(watch.totals),
        "detectors": {guard: list(logs) for guard, logs in watch.detectors.items()},
        "alarm": watch.alarm,
    }


def watch_from(doc: JsonObject) -> Watch:
    """Raises StoreError for what is not the account of a watch."""
    try:
        return Watch(
            revision=str(doc["revision"]),
            since=number(doc["since"]),
            at=number(doc["at"]),
            limits={guard: number(limit) for guard, limit in mapping(doc["limits"]).items()},
            seen={source: nodes_from(nodes) for source, nodes in mapping(doc["seen"]).items()},
            totals=nodes_from(doc["totals"]),
            detectors={guard: numbers(logs) for guard, logs in mapping(doc["detectors"]).items()},
            alarm=str(doc["alarm"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"a stored account of a watch cannot be read: {error!r:.80}",
            remedy="it was written by another version of platformops, or changed by hand",
        ) from error
