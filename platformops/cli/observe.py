"""`platformops observe`: Prometheus and Alertmanager for this platform, or the files for those that exist already."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platformops.home import Home


class ObserveAction(StrEnum):
    """What to do."""

    up = "up"
    down = "down"
    check = "check"
    export = "export"


Action = Annotated[ObserveAction, typer.Argument(help="up, down, check, or export.", show_default=False)]
Directory = Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Where `export` writes.", show_default=False)]
Webhook = Annotated[str, typer.Option(help="URL that Alertmanager posts alerts to.", show_default=False)]


def observe(action: Action, directory: Directory = None, webhook: Webhook = "", json_: AsJson = False) -> None:
    """Watch the platform with Prometheus and Alertmanager, both on loopback."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json

    where = settings.home()
    steps = {
        ObserveAction.up: lambda: _up(where, webhook),
        ObserveAction.down: lambda: _down(where),
        ObserveAction.check: lambda: _check(where),
        ObserveAction.export: lambda: _export(where, directory, webhook),
    }
    told, next_command = steps[action]()
    if json_:
        print_json(told)
    next_step(next_command)
    if told.get("problems"):
        raise typer.Exit(1)


def _up(where: Home, webhook: str) -> tuple[Mapping[str, str], str]:
    from platformops.cli import observing
    from platformops.cli.output import say

    addresses = observing.start(where, observing.settings_of(where), webhook=webhook)
    for name, address in addresses.items():
        say(f"{name}: {address}")
    return addresses, "platformops observe check"


def _down(where: Home) -> tuple[Mapping[str, str], str]:
    from platformops.cli import observing
    from platformops.cli.output import say

    ended = observing.stop(where)
    for name in ended:
        say(f"{name}: stopped")
    if not ended:
        say("Nothing was running.")
    return dict.fromkeys(ended, "stopped"), "platformops observe up"


def _check(where: Home) -> tuple[Mapping[str, str], str]:
    from platformops.cli import observing
    from platformops.cli.output import print_table

    rows = observing.checked(where)
    print_table(("check", "state", "found"), [(row.name, row.state, row.found) for row in rows])
    failed = [row.name for row in rows if row.state == "failed"]
    told = {row.name: f"{row.state}: {row.found}" for row in rows}
    return told | ({"problems": ", ".join(failed)} if failed else {}), "platformops status"


def _export(where: Home, directory: Path | None, webhook: str) -> tuple[Mapping[str, str], str]:
    from platformops.cli import observing
    from platformops.cli.output import say
    from platformops.errors import UserError

    if directory is None:
        raise UserError("export needs a folder", remedy="platformops observe export monitoring/")
    written = observing.export(where, directory, webhook=webhook)
    for path in written:
        say(str(path))
    return {"files": str(len(written))}, f"promtool test rules {directory}/prometheus/rules_test.yml"
