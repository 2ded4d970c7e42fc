"""`platformops ci check`: whether the pipeline files are what the spec says."""

from __future__ import annotations

import typer

from platformops.cli.options import AsJson
from platformops.cli.pipelines import Found, SpecHere


def ci_check(spec: SpecHere = None, json_: AsJson = False) -> None:
    """Exit 1 when a pipeline file is not what `ci write` would write; files without our marks are left alone."""
    from platformops.cli.output import next_step, print_json, print_table, say
    from platformops.cli.pipelines import found
    from platformops.delivery.ci.systems import SYSTEMS

    here = found(spec)
    states = _states(here)
    stale = [name for name, is_current in states.items() if not is_current]
    if json_:
        print_json({"spec": here.pipeline.spec, "current": [n for n in states if n not in stale], "stale": stale})
    elif states:
        rows = [(SYSTEMS[name].file, "current" if is_current else "stale") for name, is_current in states.items()]
        print_table(("file", "state"), rows)
    else:
        say(f"No pipeline file of {here.pipeline.spec} yet.")
    if not json_:
        write = f"platformops ci write {stale[0] if stale else 'gitlab'} {here.pipeline.spec}"
        next_step("platformops ci run" if states and not stale else write)
    if stale:
        raise typer.Exit(1)


def _states(here: Found) -> dict[str, bool]:
    """CI systems whose file has our marks -> whether writing it again would change nothing."""
    from platformops.cli.pipelines import text_of
    from platformops.delivery.ci.region import spec_in
    from platformops.delivery.ci.systems import SYSTEMS, written

    texts = {name: text_of(system, here.top) for name, system in SYSTEMS.items()}
    ours = {name: text for name, text in texts.items() if text and spec_in(text)}
    return {name: written(SYSTEMS[name], here.pipeline, text) == text for name, text in ours.items()}
