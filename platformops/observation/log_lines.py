"""One event as one structured line: names of the Elastic Common Schema where it has them, ours below `platformops.`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from platformops.store.records import Json

ECS: dict[str, str] = {
    "@timestamp": "date", "message": "match_only_text", "log.level": "keyword", "event.action": "keyword",
    "event.dataset": "keyword", "event.outcome": "keyword", "event.duration": "long", "service.name": "keyword",
    "trace.id": "keyword", "process.pid": "long", "error.code": "keyword", "error.type": "keyword",
    "http.request.method": "keyword", "http.request.id": "keyword", "http.request.body.bytes": "long",
    "http.response.status_code": "long", "url.path": "wildcard", "client.ip": "ip",
}  # fmt: skip
"""Every field of the schema that our lines use, with its type there: all of them stand so in its list of 9.4.0."""
OWN: dict[str, str] = {
    "system": "keyword", "run": "keyword", "stage": "keyword", "fingerprint": "keyword", "attempt": "long",
    "revision": "keyword", "version": "keyword", "node": "keyword", "request": "keyword", "seconds": "double",
    "items": "long", "key_id": "keyword", "code": "keyword", "epoch": "long", "reason": "text", "act": "keyword",
}  # fmt: skip
"""Fields below `platformops.` that are searched by; others are kept and not indexed."""


def timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def line(
    at: float,
    action: str,
    message: str,
    *,
    level: str = "info",
    ecs: Mapping[str, Json] | None = None,
    about: Mapping[str, Json] | None = None,
) -> str:
    """The line without its break, in ASCII; `ecs` holds names of ECS, `about` names below `platformops.`."""
    record = {
        "@timestamp": timestamp(at),
        "log.level": level,
        "event.action": action,
        "message": message,
        **(ecs or {}),
        **{f"platformops.{name}": value for name, value in (about or {}).items()},
    }
    return json.dumps(record, separators=(",", ":"))
