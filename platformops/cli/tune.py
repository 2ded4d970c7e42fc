"""`platformops tune`: measures a live system and proposes settings for a limit on response time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson
from platformops.cli.perf import File, Seconds, System

if TYPE_CHECKING:
    from platformops.store.records import JsonObject

SLO = re.compile(r"p99=([0-9]+(?:\.[0-9]+)?)(ms|s)", re.ASCII)
Slo = Annotated[str, typer.Option(help="The limit: p99=80ms.", show_default=False)]
Most = Annotated[int, typer.Option("--replicas", min=1, max=1000, help="Most replicas to propose.")]


def tune(
    system: System, file: File, slo: Slo = "p99=80ms", replicas: Most = 4, seconds: Seconds = 3.0, json_: AsJson = False
) -> None:
    """Propose replicas, batch size and queue for a limit on response time."""
    from platformops.cli import measuring
    from platformops.cli.output import next_step, print_json, say
    from platformops.cli.perf import endpoint_of
    from platformops.clock import SystemClock
    from platformops.errors import UserError
    from platformops.observation.capacity.service import fit_service
    from platformops.observation.capacity.tuning import propose

    p99_s = limit_s(slo)
    points = measuring.sweep(endpoint_of(system), file, SystemClock(), seconds=seconds)
    try:
        found = propose(fit_service(points), p99_s=p99_s, replicas=range(1, replicas + 1))
    except ValueError as error:
        raise UserError(str(error), remedy="a longer limit, or a faster model") from None
    document: JsonObject = {
        "serve": {"replicas": [found.replicas, found.replicas], "batch": found.batch, "max_queue": found.max_queue},
        "rps": round(found.prediction.throughput_per_s, 1),
        "p99_ms": round(1e3 * found.prediction.p99_s, 2),
        "reason": found.reason,
    }
    if json_:
        print_json(document)
    else:
        say(f"serve: {{replicas: [{found.replicas}, {found.replicas}], batch: {found.batch}, "
            f"max_queue: {found.max_queue}}}")  # fmt: skip
        say(found.reason)
    changes = f"--set serve.replicas=[{found.replicas},{found.replicas}] --set serve.batch={found.batch}"
    next_step(f"platformops up SPEC {changes}, then platformops perf {system} {file}")


def limit_s(slo: str) -> float:
    """Seconds of `p99=80ms`. Raises UserError for anything else."""
    from platformops.errors import UserError

    match = SLO.fullmatch(slo.strip())
    if match is None or float(match[1]) <= 0:
        raise UserError(f"the limit cannot be read: {slo!r}", remedy="write it as p99=80ms or p99=0.5s")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)
