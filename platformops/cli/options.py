"""The arguments and options that several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="A YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the spec: train.epochs=3. Repeatable."),
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the endpoint; another one where it is taken.")]
Environment = Annotated[
    str, typer.Option(help="Of the spec: any but `production` is a system of its own, such as digits-test.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def spec_arguments(spec: Path, overrides: Sequence[str] | None) -> tuple[str, ...]:
    """What was typed, as another process in another folder would have to type it."""
    return (str(spec.absolute()), *(part for override in overrides or () for part in ("--set", override)))
