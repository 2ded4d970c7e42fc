"""`platformops drift`: whether a system's answers, and their errors where the truth came back, are as they were."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platformops.store.records import JsonObject, Store

System = Annotated[str, typer.Argument(help="A system that serves.", show_default=False)]
REFERENCE = 500
"""Of the newest version's sampled answers, at most so many of the first are what later ones are compared with."""
FEWEST = 100


def drift(system: System, json_: AsJson = False) -> None:
    """Show what changed since the newest version began to serve: each stream, its evidence, and since when."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, print_table, say

    with settings.opened_store(settings.home()) as store:
        document = seen(store, system)
    if json_:
        print_json(document)
        return
    say(f"{system}: {document['reason']}")
    rows = document["streams"]
    assert isinstance(rows, list)
    if rows:
        columns = ("stream", "kind", "reference", "now", "evidence")
        print_table(columns, [tuple(str(row[name]) for name in columns) for row in rows])
    next_step(f"platformops why {system}")


def seen(store: Store, system: str) -> JsonObject:
    """`{"state", "reason", "since", "version", "rows", "streams"}` from the samples that the gateway kept."""
    from platformops.errors import UserError

    samples = sorted((e.value for e in store.scan(f"sample/{system}/")), key=lambda s: float(str(s.get("at", 0))))
    if not samples and store.get(f"system/{system}") is None:
        raise UserError(f"there is no system {system!r}", remedy="platformops status")
    version = str(samples[-1].get("model_version")) if samples else ""
    own = [s for s in samples if s.get("model_version") == version]
    if len(own) < 2 * FEWEST:
        reason = f"{len(own)} answers were sampled since {version or 'it'} serves; {2 * FEWEST} are needed"
        return {
            "state": "unknown",
            "reason": reason,
            "since": None,
            "version": version,
            "rows": len(own),
            "streams": [],
        }
    return _judged(own, version)


def _judged(samples: Sequence[JsonObject], version: str) -> JsonObject:
    import numpy as np

    from platformops.observation.drift.outcomes import outcomes_of
    from platformops.observation.drift.watch import Watch

    told = [str(s.get("label")) for s in samples]
    truths = [str(s["truth"]) if s.get("truth") else None for s in samples]
    size = min(REFERENCE, len(samples) // 2)
    outcomes = outcomes_of(told[:size])
    values = outcomes.values(told, truths)
    watch = Watch(outcomes.streams, values[:size])
    found, evidence = watch.observe(values[size:]), watch.evidence()
    streams = []
    for i, stream in enumerate(outcomes.streams):
        before, now = (part[np.isfinite(part)] for part in (values[:size, i], values[size:, i]))
        if len(before) and len(now):
            means = {"reference": round(float(before.mean()), 4), "now": round(float(now.mean()), 4)}
            row = {"stream": stream.name, "kind": stream.kind.value, **means}
            streams.append(row | {"evidence": round(evidence[stream.name], 2)})
    since = float(str(samples[min(size + found[0].since_row, len(samples) - 1)]["at"])) if found else None
    reason = f"nothing has changed in {len(samples) - size:,} answers of {version}"
    if found and since is not None:
        reason = f"{found[0].reason}, {datetime.fromtimestamp(since, UTC).isoformat(timespec='seconds')}"
    state = "drift" if found else "steady"
    rows: JsonObject = {"version": version, "rows": len(samples), "streams": streams}
    return {"state": state, "reason": reason, "since": since, **rows}
