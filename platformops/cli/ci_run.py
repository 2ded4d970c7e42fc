"""`platformops ci run`: the stages of the pipeline, here, with the exit codes that the CI system would see."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson
from platformops.cli.pipelines import SpecHere
from platformops.store.records import Json

if TYPE_CHECKING:
    from platformops.clock import Clock
    from platformops.delivery.ci.records import Check, CiStage
    from platformops.store.records import Json

Stage = Annotated[str, typer.Option(metavar="STAGE", help="Only this one.", show_default=False)]
Approver = Annotated[str, typer.Option("--approved-by", metavar="NAME", help="Who lets the release go on.")]


def ci_run(spec: SpecHere = None, stage: Stage = "", approved_by: Approver = "", json_: AsJson = False) -> None:
    """Run the pipeline's stages here, as its file has them; the first line that fails ends it with its exit code."""
    from platformops.cli.output import next_step, print_json, print_table
    from platformops.cli.pipelines import found
    from platformops.cli.reporting import write_files
    from platformops.clock import SystemClock
    from platformops.delivery.ci.records import REPORTS
    from platformops.delivery.ci.reports import junit

    here = found(spec)
    stages = _chosen(here.pipeline.stages, stage)
    checks, code = _ran(stages, here.top, approved_by, SystemClock(), is_quiet=json_)
    write_files(here.top / REPORTS, {"ci.xml": junit("ci", checks)})
    if json_:
        rows: list[Json] = [
            {"name": c.name, "passed": c.passed, "reason": c.reason, "seconds": round(c.seconds, 3)} for c in checks
        ]
        print_json({"spec": here.pipeline.spec, "stages": rows, "exit_code": code})
    else:
        print_table(
            ("stage", "state", "note"), [(c.name, "passed" if c.passed else "failed", c.reason) for c in checks]
        )
        failed = next((c.name for c in checks if not c.passed), None)
        next_step(f"platformops ci run --stage {failed}" if failed else "platformops status")
    if code:
        raise typer.Exit(code)


def _chosen(stages: Sequence[CiStage], name: str) -> Sequence[CiStage]:
    from platformops.errors import UserError
    from platformops.spec.echo import did_you_mean, shown

    names = [stage.name for stage in stages]
    if name and name not in names:
        raise UserError(f"there is no stage {shown(name)}{did_you_mean(name, names)}")
    return [stage for stage in stages if stage.name == (name or stage.name)]


def _ran(
    stages: Sequence[CiStage], top: Path, approver: str, clock: Clock, *, is_quiet: bool
) -> tuple[list[Check], int]:
    """A check for each stage that was begun, and the exit code of the last."""
    from platformops.delivery.ci.records import APPROVED_BY, Check

    checks: list[Check] = []
    # The command line that runs this is the one that the stages call.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, APPROVED_BY: approver}
    for stage in stages:
        began = clock.monotonic()
        code, reason = _held(stage, approver) or _carried_out(stage, top, environment, is_quiet=is_quiet)
        checks.append(Check(stage.name, code == 0, reason, clock.monotonic() - began))
        if code:
            return checks, code
    return checks, 0


def _held(stage: CiStage, approver: str) -> tuple[int, str] | None:
    return (1, "a person must let it go on: --approved-by NAME") if stage.is_manual and not approver else None


def _carried_out(stage: CiStage, top: Path, environment: dict[str, str], *, is_quiet: bool) -> tuple[int, str]:
    """Its lines in turn, to the first that fails: exit code and reason, as a shell counts a process that was killed."""
    for line in stage.script:
        print(f"{stage.name}: {line}", file=sys.stderr, flush=True)
        out = sys.stderr if is_quiet else None
        done = subprocess.run(["bash", "-c", line], cwd=top, env=environment, check=False, stdout=out)
        if done.returncode:
            code = done.returncode if done.returncode > 0 else 128 - done.returncode
            return code, f"exit {code}: {line}"
    return 0, ""
