"""`platformops hooks log`: which deliveries came, which runs they led to, and that the record is whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from platformops.cli.options import AsJson
from platformops.store.records import Json

Count = Annotated[int, typer.Option("--last", min=1, max=10_000, help="How many, newest last.")]


def hooks_log(last: Count = 50, json_: AsJson = False) -> None:
    """Show which deliveries were accepted and refused, and why, and their runs; exit 1 when the record was changed."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, print_table, say
    from platformops.delivery.ci.asked_store import asked_json, asked_runs
    from platformops.security.audit import STORED_UNDER, broken_link

    with settings.opened_store(settings.home()) as store:
        entries, runs = store.scan(STORED_UNDER), asked_runs(store, last)
    broken = broken_link(entries)
    if json_:
        asked: list[Json] = [{"run": run.name, **asked_json(run)} for run in runs]
        print_json({"entries": [entry.value for entry in entries[-last:]], "runs": asked, "broken_at": broken})
    else:
        rows = [(_when(e.value["at"]), *(str(e.value[n]) for n in ("outcome", "what", "who", "reason")))
                for e in entries[-last:]]  # fmt: skip
        print_table(("when", "outcome", "what", "who", "reason"), rows)
        print_table(("run", "state", "revision", "who", "led to", "note"),
                    [(r.name, r.state.value, r.revision, r.who, r.run_id, r.reason) for r in runs])  # fmt: skip
        say(f"The record is not as it was written from {broken} on." if broken else "The record is whole.")
        next_step("platformops status")
    if broken:
        raise typer.Exit(1)


def _when(at: object) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}" if isinstance(at, int | float) else ""
