"""`platformops run`: carry out a spec's steps and register the model, without releasing anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson, Overrides, SpecFile, spec_arguments

if TYPE_CHECKING:
    from platformops.cli.running import Ran
    from platformops.delivery.records import GateResult

Parallel = Annotated[int, typer.Option(min=1, help="Most independent steps that run at once.")]
Until = Annotated[str, typer.Option(metavar="STAGE", help="End after this stage and those that it needs.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 when a gate refuses the model.")]
ReportTo = Annotated[
    Path | None, typer.Option("--report", metavar="FOLDER", help="Leave JUnit, metrics, a table and a badge there.")
]


def run(
    spec: SpecFile,
    set_: Overrides = None,
    parallel: Parallel = 2,
    until: Until = "",
    strict: Strict = False,
    report: ReportTo = None,
    json_: AsJson = False,
) -> None:
    """Run a spec's steps and register the model, releasing nothing. Finished steps are not run again."""
    from platformops.cli import settings
    from platformops.cli.gates import judged
    from platformops.cli.output import print_json, progress_shown
    from platformops.cli.reporting import write_reports
    from platformops.cli.running import carry_out, run_document, session
    from platformops.clock import SystemClock
    from platformops.pipeline.runner import exit_code

    where, clock = settings.home(), SystemClock()
    again = ("run", *spec_arguments(spec, set_), "--parallel", str(parallel), *(["--until", until] if until else []))
    with (
        settings.opened_store(where) as store,
        progress_shown() as show,
        session(where, store, clock, show, arguments=again) as s,
    ):
        ran = carry_out(spec, set_, s, parallel=parallel, until=until)
        gates = judged(ran, s)
    if report:
        write_reports(report, ran, gates)
    if json_:
        print_json(run_document(ran, endpoint=None, gates=gates))
    else:
        _print(ran, gates, str(spec))
    if code := exit_code(ran.result) or int(strict and not all(gate.passed for gate in gates)):
        raise typer.Exit(code)


def _print(ran: Ran, gates: Sequence[GateResult], spec: str) -> None:
    from platformops.cli.output import next_step
    from platformops.cli.running import print_gates, print_run

    print_run(ran)
    print_gates(gates)
    if ran.result.state.value != "succeeded":
        next_step(f"platformops why {ran.result.run_id}")
    else:
        next_step(f"platformops up {spec}" if ran.version else f"platformops logs --run {ran.result.run_id}")
