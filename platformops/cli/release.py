"""`platformops release`: a spec's model gets the traffic, step by step, under guard."""

from __future__ import annotations

from typing import Annotated

import typer

from platformops.cli.options import AsJson, Environment, Overrides, Port, SpecFile, spec_arguments
from platformops.spec.environments import PRODUCTION

Watch = Annotated[bool, typer.Option("--watch", help="Stay until the release has ended. Ctrl-C leaves it running.")]
Queue = Annotated[bool, typer.Option("--queue", help="Wait for a running release to end, in place of being refused.")]
Approver = Annotated[
    str, typer.Option("--approved-by", metavar="NAME", help="Who approves its traffic, where the spec wants that.")
]


def release(
    spec: SpecFile,
    set_: Overrides = None,
    port: Port = 8000,
    watch: Watch = False,
    queue: Queue = False,
    environment: Environment = PRODUCTION,
    approved_by: Approver = "",
    json_: AsJson = False,
) -> None:
    """Give a model the traffic, step by step, under guard. What has not run yet is run before."""
    from platformops.cli.releasing import Wish
    from platformops.cli.up import bring_live

    options = ["--queue"] if queue else []
    options += ["--environment", environment] if environment != PRODUCTION else []
    options += ["--approved-by", approved_by] if approved_by else []
    again = ("release", *spec_arguments(spec, set_), "--port", str(port), *options)
    wish = Wish(queue=queue, watch=watch, environment=environment, approver=approved_by)
    bring_live(spec, set_, port, again=again, as_json=json_, wish=wish, needs_model=True)
