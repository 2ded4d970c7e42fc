"""`platformops release`: a spec's model gets the traffic, step by step, under guard."""

from __future__ import annotations

from typing import Annotated

import typer

from platformops.cli.options import AsJson, Overrides, SpecFile, spec_arguments

Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the endpoint; another one where it is taken.")]
Watch = Annotated[bool, typer.Option("--watch", help="Stay until the release has ended. Ctrl-C leaves it running.")]
Queue = Annotated[bool, typer.Option("--queue", help="Wait for a running release to end, in place of being refused.")]
SHOWN_STAGES = ("train", "evaluate")


def release(
    spec: SpecFile,
    set_: Overrides = None,
    port: Port = 8000,
    watch: Watch = False,
    queue: Queue = False,
    json_: AsJson = False,
) -> None:
    """Give a model the traffic, step by step, under guard. What has not run yet is run before."""
    from platformops.cli import settings
    from platformops.cli.output import progress_shown
    from platformops.cli.running import carry_out, session
    from platformops.cli.up import brought_live, print_live, print_live_json
    from platformops.clock import SystemClock
    from platformops.errors import UserError
    from platformops.pipeline.runner import exit_code

    where, clock = settings.home(), SystemClock()
    again = ("release", *spec_arguments(spec, set_), "--port", str(port), *(["--queue"] if queue else []))
    with (
        settings.opened_store(where) as store,
        progress_shown() as show,
        session(where, store, clock, show, arguments=again) as s,
    ):
        ran = carry_out(spec, set_, s, verify=SHOWN_STAGES, is_served=True)
        if ran.version is None and not exit_code(ran.result):
            raise UserError(f"{spec} makes no model, so there is nothing to release", remedy="platformops run SPEC")
        live = brought_live(ran, s, port, queue=queue, watch=watch) if ran.version else None
    if json_:
        print_live_json(ran, live)
    else:
        print_live(ran, live, str(spec), s)
    if code := exit_code(ran.result) or (1 if live and not (live.is_promoted or live.waiting) else 0):
        raise typer.Exit(code)
