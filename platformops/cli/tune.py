"""`platformops tune`: proposes settings for a limit on response time, and proves them by load."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson
from platformops.cli.perf import File, Seconds, System

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platformops.cli.tuning import Proof, Trial
    from platformops.observation.capacity.records import Measured
    from platformops.observation.capacity.tuning import Proposal
    from platformops.store.records import Json

LEAST_GAIN = 1.05
"""Of the rate within the limit: a smaller one is luck of the measurement."""

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
    trial = tuning.Trial(endpoint_of(system), file, limit_s(slo), seconds)
    points = tuning.measured(trial)
    found = _proposed(points, trial, replicas)
    document = _document(found)
    if spec is None:
        document |= _unreleased(found, trial)
    else:
        before = tuning.kept(trial, tuning.rate_of(points, trial))
        document |= _released(found, before, trial, spec, write=write)
    if json_:
        print_json(document)
    else:
        _print(found, document, f"platformops tune {system} {file} --slo {slo} --spec SPEC")
    if document["verified"] is False:
        raise typer.Exit(1)


def _proposed(points: Sequence[Measured], trial: Trial, replicas: int) -> Proposal:
    from platformops.errors import UserError
    from platformops.observation.capacity.tails import fit_live
    from platformops.observation.capacity.tuning import propose

    try:
        service = fit_live(points, cores=trial.endpoint.cores)
        return propose(service, p99_s=trial.p99_s, replicas=range(1, replicas + 1))
    except ValueError as error:
        raise UserError(str(error), remedy="a longer limit, or a faster model") from None


def _document(found: Proposal) -> dict[str, Json]:
    from platformops.cli import tuning

    return {
        "serve": tuning.serve_of(found),
        "rps": round(found.prediction.throughput_per_s, 1),
        "p99_ms": round(1e3 * found.prediction.p99_s, 2),
        "reason": found.reason,
    }


def _unreleased(found: Proposal, trial: Trial) -> dict[str, Json]:
    """The load that the proposal promises, on a system that has these settings."""
    from platformops.cli import tuning

    now = trial.endpoint
    if (now.replicas, now.batch) != (found.replicas, found.batch):
        measured = f"not proven: the system has {now.replicas} replicas and batches of {now.batch}"
        return {"verified": None, "measured": measured}
    proof = tuning.kept(trial, found.prediction.throughput_per_s)
    return {"verified": proof.is_within, "measured": proof.told}


def _released(found: Proposal, before: Proof, trial: Trial, spec: Path, *, write: bool) -> dict[str, Json]:
    """What became of the proposal once it had the traffic: kept where it is proven and serves more than before."""
    from platformops.cli import tuning

    system = trial.endpoint.system
    tuning.release(system, spec, found)
    proof = tuning.verified(trial, found)
    speedup = proof.rate_per_s / before.rate_per_s if before.is_within and proof.is_within else None
    is_better = proof.is_within and (speedup is None or speedup > LEAST_GAIN)
    said = "" if is_better or not proof.is_within else f"; no better than before ({before.rate_per_s:,.0f} a second)"
    return {
        "verified": is_better,
        "measured": proof.told + said,
        "kept_rps": round(proof.rate_per_s, 1) if proof.is_within else None,
        "before_rps": round(before.rate_per_s, 1) if before.is_within else None,
        "speedup": round(speedup, 2) if speedup else None,
        "written": tuning.settle(system, spec, found, proven=is_better, write=write),
    }


def _print(found: Proposal, document: Mapping[str, Json], prove: str) -> None:
    from platformops.cli import tuning
    from platformops.cli.output import next_step, say

    say(tuning.as_text(found))
    say(found.reason)
    say(str(document["measured"]))
    if document.get("speedup"):
        say(f"{document['kept_rps']} requests a second within the limit, {document['before_rps']} before")
    if document["verified"] is None:
        next_step(f"{prove} releases these settings and proves them")
    elif document["verified"]:
        next_step("platformops perf SYSTEM FILE" if document.get("written") else f"{prove} --write keeps them")


def limit_s(slo: str) -> float:
    """Seconds of `p99=80ms`. Raises UserError for anything else."""
    from platformops.errors import UserError

    match = SLO.fullmatch(slo.strip())
    if match is None or float(match[1]) <= 0:
        raise UserError(f"the limit cannot be read: {slo!r}", remedy="write it as p99=80ms or p99=0.5s")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)
