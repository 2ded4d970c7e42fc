"""`platformops schema`: the JSON Schema of specs."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def schema(
    json_: Annotated[bool, typer.Option("--json", help="On one line.")] = False,
) -> None:
    """Print the JSON Schema of specs, for editors.

    With `# yaml-language-server: $schema=platformops.schema.json` as the first line of a spec, an editor
    completes and checks it.
    """
    from platformops.cli.output import print_json
    from platformops.spec.schema import json_schema

    if json_:
        print_json(json_schema())
    else:
        print(json.dumps(json_schema(), indent=2))
