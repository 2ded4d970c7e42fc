"""`platformops drift`: whether answers are as they were, what follows from it, and a person's say in that."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platformops.home import Home
    from platformops.observation.drift.answers import Answer, AnswerWatch, Found
    from platformops.store.records import JsonObject, Store

System = Annotated[str, typer.Argument(help="A system that serves.", show_default=False)]
Page = Annotated[
    Path | None, typer.Option("--page", metavar="FILE", help="Write a page with charts and pictures there.")
]
Pause = Annotated[
    bool, typer.Option("--pause", help="Retrain nothing until it is resumed; ends a retraining under way.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Let a paused loop go on.")]
As = Annotated[str, typer.Option("--as", metavar="NAME", help="Who orders it, for the record; else who is logged in.")]


@dataclass(frozen=True, slots=True)
class Watched:
    """The answers of the newest version, and what the watch over them says."""

    version: str
    answers: Sequence[Answer]
    watch: AnswerWatch
    found: Sequence[Found]


def drift(
    system: System, pause: Pause = False, resume: Resume = False, page: Page = None, as_: As = "", json_: AsJson = False
) -> None:
    """Show what changed since the newest version began to serve, and what the drift loop does about it."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, print_table, say
    from platformops.errors import UserError

    if pause and resume:
        raise UserError("--pause and --resume are each other's opposite", remedy="give one of them")
    where = settings.home()
    with settings.opened_store(where) as store:
        if pause or resume:
            _ordered(store, system, as_ or getpass.getuser(), pause=pause)
        profiles = profiles_of(where, store, system)
        document = {**seen(store, system, profiles), "loop": loop_document(store, system)}
        if page is not None:
            page.write_text(_page(store, where, system, profiles, document), encoding="utf-8")
    if json_:
        print_json(document)
        return
    say(f"{system}: {document['reason']}")
    if rows := document["streams"]:
        columns = ("stream", "kind", "reference", "now", "evidence")
        print_table(columns, [tuple(str(row[name]) for name in columns) for row in rows])  # type: ignore[union-attr,call-overload,index]
    _say_loop(document["loop"])  # type: ignore[arg-type]
    next_step(f"open {page}" if page else f"platformops why {system}")


def seen(store: Store, system: str, profiles: Mapping[str, tuple[float, ...]] | None = None) -> JsonObject:
    """`{"state", "reason", "since", "version", "rows", "streams"}` from the samples that the gateway kept."""
    from platformops.observation.drift.answers import REFERENCE

    watched = _watched(store, system, profiles or {})
    told: JsonObject = {"version": watched.version, "rows": len(watched.answers), "streams": _streams(watched.watch)}
    if watched.watch.missing:
        said = f"{len(watched.answers)} answers were sampled since {watched.version or 'it'} serves"
        return {"state": "unknown", "reason": f"{said}; {REFERENCE} are needed", "since": None, **told}
    if not watched.found:
        later = len(watched.answers) - REFERENCE
        return {"state": "steady", "reason": f"nothing has changed in {later:,} answers", "since": None, **told}
    first = watched.found[0]
    began = datetime.fromtimestamp(first.since, UTC).isoformat(timespec="seconds")
    return {"state": "drift", "reason": f"{first.drift.reason}, {began}", "since": first.since, **told}


def profiles_of(where: Home, store: Store, system: str) -> Mapping[str, tuple[float, ...]]:
    """What kept pictures are like, by request."""
    from platformops.gateway.input_profiles import profiles
    from platformops.gateway.inputs import read_inputs

    ids = [entry.key.rsplit("/", 1)[1] for entry in store.scan(f"sample/{system}/")]
    return profiles(read_inputs(where.inputs, system, ids))


def loop_document(store: Store, system: str) -> JsonObject | None:
    """What the drift loop does; None for a system that has none."""
    from platformops.delivery.retraining import load_loop, load_recipe

    recipe = load_recipe(store, system)
    if recipe is None:
        return None
    loop, _ = load_loop(store, system)
    return {
        "state": loop.state.value, "reason": loop.reason, "cause": loop.cause, "pending": loop.pending,
        "retrains": recipe.retrain, "retrainings": loop.number, "failures": loop.failures,
    }  # fmt: skip


def _ordered(store: Store, system: str, who: str, *, pause: bool) -> None:
    """The controller writes the loop as well; an order that met one of its writes is given again."""
    from platformops.cli.ordering import CONFLICTS, LOOK_S
    from platformops.clock import SystemClock
    from platformops.delivery import retraining
    from platformops.errors import StoreConflict

    clock, order = SystemClock(), retraining.pause if pause else retraining.resume
    for _ in range(CONFLICTS):
        try:
            order(store, system, who=who, now=clock.now())
        except StoreConflict:
            clock.sleep(LOOK_S)
        else:
            return
    raise StoreConflict(f"the loop of {system} is being changed all the time", remedy="try again")


def _watched(store: Store, system: str, profiles: Mapping[str, tuple[float, ...]]) -> Watched:
    from platformops.errors import UserError
    from platformops.observation.drift.answers import AnswerWatch
    from platformops.retraining import answer_of

    samples = sorted((e.value for e in store.scan(f"sample/{system}/")), key=lambda s: float(str(s.get("at", 0))))
    if not samples and store.get(f"system/{system}") is None:
        raise UserError(f"there is no system {system!r}", remedy="platformops status")
    version = str(samples[-1].get("model_version")) if samples else ""
    answers = [answer_of(s, profiles) for s in samples if s.get("model_version") == version]
    watch = AnswerWatch()
    return Watched(version, answers, watch, watch.observe(answers))


def _streams(watch: AnswerWatch) -> list[JsonObject]:
    return [
        {
            "stream": c.stream.name, "kind": c.stream.kind.value, "reference": round(c.reference, 4),
            "now": round(c.now, 4), "evidence": round(c.evidence, 2),
        }
        for c in watch.compared()
    ]  # fmt: skip


def _page(
    store: Store, where: Home, system: str, profiles: Mapping[str, tuple[float, ...]], document: JsonObject
) -> str:
    from platformops.gateway.inputs import read_inputs
    from platformops.observation.drift.page import MOST_PICTURES, DriftPage, compared_answers, render

    watched = _watched(store, system, profiles)
    since = watched.found[0].since if watched.found else None
    pictures = [
        list(read_inputs(where.inputs, system, [a.id for a in part if a.profile][-MOST_PICTURES:]).values())
        for part in compared_answers(watched.answers, since)
    ]
    return render(DriftPage(system, watched.version, str(document["reason"]), watched.answers, since, *pictures))


def _say_loop(loop: JsonObject | None) -> None:
    from platformops.cli.output import say

    if loop is None:
        return
    retrains = "" if loop["retrains"] else " (watch.retrain is off: it only says what it finds)"
    say(f"Drift loop: {loop['state']}{retrains}: {loop['reason']}")
