"""`platformops ci write`: the pipeline file of a CI system."""

from __future__ import annotations

from typing import Annotated

import typer

from platformops.cli.options import AsJson
from platformops.cli.pipelines import SpecHere

System = Annotated[str, typer.Argument(metavar="SYSTEM", help="gitlab, jenkins, travis or github.", show_default=False)]


def ci_write(system: System, spec: SpecHere = None, json_: AsJson = False) -> None:
    """Write the pipeline file of a CI system from the spec; parts of a file that are a person's own are kept."""
    from platformops.cli.output import next_step, print_json, say
    from platformops.cli.pipelines import found, text_of
    from platformops.cli.reporting import write_files
    from platformops.delivery.ci.systems import SYSTEMS, written
    from platformops.errors import UserError
    from platformops.spec.echo import did_you_mean, shown

    if system not in SYSTEMS:
        raise UserError(f"there is no CI system {shown(system)}{did_you_mean(system, SYSTEMS)}")
    here, chosen = found(spec), SYSTEMS[system]
    existing = text_of(chosen, here.top)
    text = written(chosen, here.pipeline, existing)
    if text != existing:
        path = here.top / chosen.file
        write_files(path.parent, {path.name: text})
    if json_:
        print_json({"system": system, "file": chosen.file, "spec": here.pipeline.spec, "changed": text != existing})
        return
    say(f"{'wrote' if text != existing else 'unchanged:'} {chosen.file}, from {here.pipeline.spec}")
    next_step("platformops ci run --stage lint")
