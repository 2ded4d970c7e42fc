"""What is known of one request by its id: the answer that was kept of it, and its line in the access log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from platformops.store.records import Json, JsonObject, Store

REQUEST_ID = re.compile(r"(?:0{8})?([0-9a-f]{24})", re.ASCII)
"""Alone, or filled up to a trace id."""
KEPT = ("revision", "model_version", "node", "label", "truth", "shadow", "shadow_version", "shadow_label")


def explained(store: Store, logs: Path, subject: str) -> JsonObject | None:
    """As `why` tells it; None for what is no request that anybody knows of."""
    match = REQUEST_ID.fullmatch(subject)
    if match is None:
        return None
    sample, line = _sample(store, match[1]), _line(logs, match[1])
    if sample is None and line is None:
        return None
    found: list[Json] = []
    if sample is not None:
        found.append({name: sample[name] for name in KEPT if sample.get(name)})
    if line is not None:
        found.append(line)
    return {
        "subject": match[1], "decision": _said(sample or {}, line or {}), "evidence": found, "would_change": "",
        "reason": "" if sample else "its answer was not sampled, so that only the access log knows of it",
        "decided_at": sample["at"] if sample else None,
    }  # fmt: skip


def _said(sample: JsonObject, line: JsonObject) -> str:
    status = line.get("http.response.status_code")
    version = sample.get("model_version") or line.get("platformops.version")
    node = str(sample.get("node") or line.get("platformops.node") or "")
    answered = f"answered {status}" if status else "answered"
    by = f" by {version}" if version else ""
    return f"request {answered}{by}{f' on node {node[:12]}' if node else ''}"


def _sample(store: Store, request_id: str) -> JsonObject | None:
    for system in store.scan("system/"):
        entry = store.get(f"sample/{system.key.partition('/')[2]}/{request_id}")
        if entry is not None:
            return entry.value
    return None


def _line(logs: Path, request_id: str) -> JsonObject | None:
    from platformops.cli.logs import REQUEST, found

    lines = found(sorted(logs.glob("gateway*.jsonl")), {REQUEST: request_id}, 1)
    record = json.loads(lines[0]) if lines else None
    return record if isinstance(record, Mapping) else None
