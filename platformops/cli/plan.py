"""`platformops plan`: what a run would do, before it does anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from platformops.cli.options import AsJson, Overrides, SpecFile

if TYPE_CHECKING:
    from platformops.pipeline.records import StepPreview


def plan(spec: SpecFile, set_: Overrides = None, json_: AsJson = False) -> None:
    """Show what would run, what is cached, and why a step is not."""
    from platformops.cli import settings
    from platformops.cli.output import print_json
    from platformops.cli.planning import planned
    from platformops.clock import SystemClock
    from platformops.pipeline.preview import explain

    with settings.opened_store(settings.home()) as store:
        made = planned(spec, set_, store=store, clock=SystemClock())
        previews = explain(made.plan, store)
    if json_:
        print_json({"system": made.spec.system, "steps": [asdict(p) for p in previews]})
    else:
        _print(previews, str(spec), has_app=made.spec.app is not None)


def _print(previews: Sequence[StepPreview], spec: str, *, has_app: bool) -> None:
    from platformops.cli.output import next_step, print_table, say, seconds_text

    rows = [
        (p.name, "cached" if p.cached else "will run", seconds_text(p.seconds), "; ".join(p.reasons)) for p in previews
    ]
    print_table(("stage", "state", "last time", "why"), rows)
    missing = [p for p in previews if not p.cached]
    known_s = sum(p.seconds or 0.0 for p in missing)
    about = f", about {seconds_text(known_s)} by the last times" if known_s else ""
    say()
    say(f"{len(missing)} of {len(previews)} steps would run{about}.")
    next_step(f"platformops {'up' if has_app else 'run'} {spec}")
