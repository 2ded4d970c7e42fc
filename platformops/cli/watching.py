"""One look at what a verb shows, or with `--watch` one after the other until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from platformops.clock import Clock
    from platformops.store.records import JsonObject

WATCH_S = 2.0
CLEAR = "\x1b[2J\x1b[H"
"""What a terminal takes for an empty screen."""
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Draw it anew every 2 s; Ctrl-C ends it.")]


def show(
    look: Callable[[], JsonObject], draw: Callable[[JsonObject], None], clock: Clock, *, watch: bool, json_: bool
) -> None:
    """What `look` finds, as one JSON object or as `draw` prints it."""
    from platformops.cli.failures import INTERRUPTED
    from platformops.cli.output import print_json

    try:
        while True:
            document = look()
            if watch and not json_ and sys.stdout.isatty():
                print(CLEAR, end="")
            print_json(document) if json_ else draw(document)
            if not watch:
                return
            clock.sleep(WATCH_S)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None  # how watching ends, so nothing needs to be said
