"""`platformops backup`: a proven copy of what the platform knows, with a certificate, and the way back from one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from platformops.cli.options import AsJson

Folder = Annotated[
    Path, typer.Argument(help="Of the backup; the next one there copies only what is new.", show_default=False)
]
Restore = Annotated[bool, typer.Option("--restore", help="Bring back into an empty home what is in the folder.")]


def backup(folder: Folder, restore: Restore = False, json_: AsJson = False) -> None:
    """Copy the store and all artifacts while everything runs, check every byte of them, and certify it."""
    from platformops.cli import settings
    from platformops.cli.backups import made, restored, said
    from platformops.cli.output import next_step, print_json, say
    from platformops.clock import SystemClock

    where, place = settings.home(), folder.expanduser().absolute()
    done = restored(place, where) if restore else made(place, where, SystemClock().now())
    if json_:
        print_json(done.document)
    else:
        say(said(done, place))
        for line in done.damaged:
            say(f"damaged, and left out: {line}")
        next_step("platformops status" if restore else f"platformops backup {folder} --restore, in an empty home")
    if done.damaged:
        raise typer.Exit(1)
