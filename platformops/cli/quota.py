"""`platformops quota`: what a team may use at once, and its weight beside others that wait."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.nodes import As
from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from platformops.scheduler.records import Team
    from platformops.store.records import Json, Store

Limit = Annotated[str, typer.Option(metavar="N", help="Most that its trainings use at once; `none` for no limit.")]
NO_LIMIT = "none"


def quota(
    team: Annotated[str, typer.Argument(help="As in PLATFORMOPS_TEAM; without one, all are shown.")] = "",
    cpus: Limit = "",
    gpus: Limit = "",
    share: Annotated[str, typer.Option(metavar="X", help="Weight in fair sharing; 1 unless set.")] = "",
    as_: As = "",
    json_: AsJson = False,
) -> None:
    """Show or set what each team may use of the cluster; what waits for it says so in `status`."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, print_table, say
    from platformops.clock import SystemClock

    limits = {name: _limit(text, option) for name, text, option in _given(cpus, gpus)}
    weight = _positive(share, "--share") if share else None
    with settings.opened_store(settings.home()) as store:
        if limits or weight is not None:
            set_team(store, team, weight, limits, as_ or getpass.getuser(), SystemClock().now())
        found = [one for one in _teams(store) if not team or one.name == team]
    if json_:
        rows: list[Json] = [{"team": one.name, "share": one.share, "quota": dict(one.quota)} for one in found]
        print_json({"teams": rows})
        return
    if found:
        print_table(("team", "share", "CPUs", "GPUs"), [_row(one) for one in found])
    else:
        say("No team has a quota: trainings go by priority, waiting and fair share alone.")
    next_step("platformops status")


def set_team(
    store: Store, name: str, share: float | None, limits: dict[str, float | None], who: str, now: float
) -> None:
    """Changes the team's share and limits, with a decision on record; the same twice is one. Raises UserError for no
    team."""
    from platformops.delivery.decisions import decision_puts
    from platformops.delivery.records import Decision
    from platformops.errors import UserError
    from platformops.scheduler.records import Team
    from platformops.scheduler.teams import TEAMS, changed, team_from, team_json
    from platformops.store.records import ABSENT, Put

    if not name:
        raise UserError("whose quota?", remedy="platformops quota TEAM --cpus 4")
    entry = store.get(TEAMS + name)
    before = team_from(entry.value) if entry else Team(name)
    after = changed(before, share=share, limits=limits)
    if entry is not None and after == before:
        return
    what = ", ".join(f"{r} {limit:g}" for r, limit in after.quota.items()) or "no limit"
    said = Decision(f"team {name}", f"quota {what}, share {after.share:g} by {who}", "a person wishes it", (), "", now)
    put = Put(TEAMS + name, team_json(after), expect=entry.version if entry else ABSENT)
    store.commit([put, *decision_puts(store, [said])])


def _teams(store: Store) -> list[Team]:
    from platformops.scheduler.teams import TEAMS, team_from

    return [team_from(entry.value) for entry in store.scan(TEAMS)]


def _given(cpus: str, gpus: str) -> list[tuple[str, str, str]]:
    """(resource, text, option) of each limit that was typed."""
    return [row for row in (("CPU", cpus, "--cpus"), ("GPU", gpus, "--gpus")) if row[1]]


def _limit(text: str, option: str) -> float | None:
    return None if text == NO_LIMIT else _positive(text, option)


def _positive(text: str, option: str) -> float:
    """Raises UserError for what is no finite number above 0."""
    from math import isfinite

    from platformops.errors import UserError
    from platformops.spec.echo import shown

    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0.0):
        raise UserError(f"{option} {shown(text)} is no number above 0", remedy=f"for example {option} 4")
    return value


def _row(team: Team) -> tuple[str, ...]:
    limits = (f"{team.quota[r]:g}" if r in team.quota else "" for r in ("CPU", "GPU"))
    return (team.name, f"{team.share:g}", *limits)
