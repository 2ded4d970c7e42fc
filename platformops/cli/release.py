"""`platformops release`: a spec's model gets the traffic, step by step, under guard."""

from __future__ import annotations

from typing import Annotated

import typer

from platformops.cli.options import AsJson, Overrides, Port, SpecFile, spec_arguments

Watch = Annotated[bool, typer.Option("--watch", help="Stay until the release has ended. Ctrl-C leaves it running.")]
Queue = Annotated[bool, typer.Option("--queue", help="Wait for a running release to end, in place of being refused.")]


def release(
    spec: SpecFile,
    set_: Overrides = None,
    port: Port = 8000,
    watch: Watch = False,
    queue: Queue = False,
    json_: AsJson = False,
) -> None:
    """Give a model the traffic, step by step, under guard. What has not run yet is run before."""
    from platformops.cli.up import bring_live

    again = ("release", *spec_arguments(spec, set_), "--port", str(port), *(["--queue"] if queue else []))
    bring_live(spec, set_, port, again=again, as_json=json_, queue=queue, watch=watch, needs_model=True)
