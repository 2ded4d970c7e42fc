"""`platformops tune`: proposes settings for a limit on response time, and proves them by load."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson
from platformops.cli.perf import File, Seconds, System

if TYPE_CHECKING:
    from platformops.cli.measuring import Endpoint
    from platformops.observation.capacity.tuning import Proposal
    from platformops.store.records import JsonObject

SLO = re.compile(r"p99=([0-9]+(?:\.[0-9]+)?)(ms|s)", re.ASCII)
Slo = Annotated[str, typer.Option(help="The limit: p99=80ms.", show_default=False)]
Most = Annotated[int, typer.Option("--replicas", min=1, max=1000, help="Most replicas to propose.")]
Spec = Annotated[
    Path | None,
    typer.Option(
        "--spec", help="The system's spec: release the proposal, prove it by load, else go back.", exists=True
    ),
]
Write = Annotated[bool, typer.Option("--write", help="Write what was proven into the spec.")]


def tune(
    system: System,
    file: File,
    slo: Slo = "p99=80ms",
    replicas: Most = 4,
    seconds: Seconds = 3.0,
    spec: Spec = None,
    write: Write = False,
    json_: AsJson = False,
) -> None:
    """Propose replicas, batch size and queue for a limit on response time, and prove them by load."""
    from platformops.cli import tuning
    from platformops.cli.output import print_json
    from platformops.cli.perf import endpoint_of
    from platformops.errors import UserError

    if write and spec is None:
        raise UserError("--write needs the spec to write to", remedy="--spec SPEC")
    p99_s, endpoint = limit_s(slo), endpoint_of(system)
    found = _proposed(endpoint, file, p99_s, replicas, seconds)
    if spec is not None:
        tuning.release(spec, found)
    document = _document(found, endpoint, file, p99_s, seconds, is_live=spec is not None)
    if spec is not None:
        document = {
            **document,
            "written": tuning.settle(system, spec, found, proven=bool(document["verified"]), write=write),
        }
    if json_:
        print_json(document)
    else:
        _print(found, document, f"platformops tune {system} {file} --slo {slo} --spec SPEC")
    if document["verified"] is False:
        raise typer.Exit(1)


def _proposed(endpoint: Endpoint, file: Path, p99_s: float, replicas: int, seconds: float) -> Proposal:
    from platformops.cli import measuring
    from platformops.clock import SystemClock
    from platformops.errors import UserError
    from platformops.observation.capacity.service import fit_service
    from platformops.observation.capacity.tuning import propose

    points = measuring.sweep(endpoint, file, SystemClock(), seconds=seconds)
    try:
        return propose(fit_service(points), p99_s=p99_s, replicas=range(1, replicas + 1))
    except ValueError as error:
        raise UserError(str(error), remedy="a longer limit, or a faster model") from None


def _print(found: Proposal, document: JsonObject, prove: str) -> None:
    from platformops.cli import tuning
    from platformops.cli.output import next_step, say

    say(tuning.as_text(found))
    say(found.reason)
    say(str(document["measured"]))
    if document["verified"] is None:
        next_step(f"{prove} releases these settings and proves them")
    elif document["verified"]:
        next_step("platformops perf SYSTEM FILE" if document.get("written") else f"{prove} --write keeps them")


def _document(
    found: Proposal, endpoint: Endpoint, file: Path, p99_s: float, seconds: float, *, is_live: bool
) -> JsonObject:
    """The proposal, and what the load that it promises did to the system, where that has these settings."""
    from platformops.cli import tuning

    told: JsonObject = {
        "serve": tuning.serve_of(found),
        "rps": round(found.prediction.throughput_per_s, 1),
        "p99_ms": round(1e3 * found.prediction.p99_s, 2),
        "reason": found.reason,
    }
    if not is_live and (endpoint.replicas, endpoint.batch) != (found.replicas, found.batch):
        measured = f"not proven: the system has {endpoint.replicas} replicas and batches of {endpoint.batch}"
        return {**told, "verified": None, "measured": measured}
    proof = tuning.proven(endpoint, file, found, p99_s=p99_s, seconds=max(seconds, tuning.LEAST_PROOF_S))
    return {**told, "verified": proof.is_within, "measured": proof.told}


def limit_s(slo: str) -> float:
    """Seconds of `p99=80ms`. Raises UserError for anything else."""
    from platformops.errors import UserError

    match = SLO.fullmatch(slo.strip())
    if match is None or float(match[1]) <= 0:
        raise UserError(f"the limit cannot be read: {slo!r}", remedy="write it as p99=80ms or p99=0.5s")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)
