"""`platformops why`: the record of a decision, with its evidence and what would have changed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson
from platformops.store.records import Json, JsonObject

if TYPE_CHECKING:
    from platformops.delivery.records import Decision
    from platformops.store.records import Entry, Store

LONGEST_SUBJECT = 200
Subject = Annotated[
    str,
    typer.Argument(
        help="A system (digits), version (digits:v2), rollout (digits:rollout-3), run, step, request id, or `node` and "
        "its name.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(help="After `node`: the beginning of its id, its address, or `head`.")]
Count = Annotated[int, typer.Option("--last", min=1, max=1000, help="How many decisions, newest first.")]


Page = Annotated[
    Path | None, typer.Option("--page", metavar="FILE", help="Write a page on a release there: of a rollout's name.")
]


def why(subject: Subject, name: Name = "", last: Count = 1, page: Page = None, json_: AsJson = False) -> None:
    """Explain the last decision on a system, version, run, step or node, or what became of a request."""
    from platformops.cli import settings
    from platformops.cli.output import print_json

    with settings.opened_store(settings.home()) as store:
        found = explanations(store, _subject(store, subject, name), limit=last)
        if page is not None:
            from platformops.cli.release_pages import page_of

            page.write_text(page_of(store, subject), encoding="utf-8")
    if json_:
        print_json(found[0] if last == 1 else {**found[0], "earlier": found[1:]})
    else:
        for explanation in found:
            _print(explanation)


def _subject(store: Store, subject: str, name: str) -> str:
    """The id of the node where one is meant. Raises UserError for a second word after anything else."""
    from platformops.cli.nodes import named
    from platformops.errors import UserError
    from platformops.spec.echo import shown

    if not name:
        return subject
    if subject != "node":
        raise UserError(f"why takes one name, and then not {shown(name)}", remedy=f"platformops why {shown(subject)}")
    return str(named(store, name)["id"])


def explanations(store: Store, subject: str, *, limit: int) -> list[JsonObject]:
    """`{"decision", "reason", "evidence", "would_change", "subject", "decided_at"}`, newest first, at least one.

    Raises UserError when nothing of that name was decided, with the nearest name that was.
    """
    from platformops.delivery.decisions import explain
    from platformops.errors import UserError
    from platformops.spec.echo import shown

    found = [_of_decision(d) for d in explain(store, subject, limit=limit)] if _is_key_part(subject) else []
    found = (
        found or list(_of_run(store, subject)) or list(_of_steps(store, subject)) or list(_of_request(store, subject))
    )
    if not found:
        raise UserError(f"nothing was decided about {shown(subject)}", remedy=_nearest(store, subject))
    return found


def _is_key_part(subject: str) -> bool:
    return 0 < len(subject) <= LONGEST_SUBJECT and "/" not in subject and subject.isprintable()


def _of_decision(decision: Decision) -> JsonObject:
    from platformops.delivery.decisions import decision_json

    return decision_json(decision)


def _of_run(store: Store, run_id: str) -> Iterator[JsonObject]:
    entry = store.get(f"run/{run_id}") if _is_key_part(run_id) else None
    if entry is None:
        return
    steps = entry.value.get("steps")
    state = str(entry.value.get("state", "unknown"))
    yield _explanation(run_id, f"run {state}", entry, evidence=steps if isinstance(steps, list) else [])


def _of_request(store: Store, subject: str) -> Iterator[JsonObject]:
    from platformops.cli import settings
    from platformops.cli.asked import explained

    told = explained(store, settings.home().logs, subject)
    if told is not None:
        yield told


def _of_steps(store: Store, subject: str) -> Iterator[JsonObject]:
    """By the first eight or more digits of a fingerprint, or the last step of a stage: `digits/train`, or `train`."""
    if len(subject) >= 8 and all(c in "0123456789abcdef" for c in subject):
        found = store.scan(f"step/{subject}", limit=2)
        if len(found) == 1:
            yield _of_step(found[0])
    for latest in store.scan("latest/"):
        _, system, stage = latest.key.split("/")
        if subject in (stage, f"{system}/{stage}"):
            yield _of_step(store.get(f"step/{latest.value.get('fingerprint')}") or latest)


def _of_step(entry: Entry) -> JsonObject:
    record = entry.value
    state, stage = str(record.get("state", "unknown")), str(record.get("stage", ""))
    names = ("attempts", "seconds", "run_id", "manifest_digest", "failure", "summary")
    evidence = [{name: record[name]} for name in names if record.get(name)]
    return _explanation(entry.key.removeprefix("step/"), f"step {stage} {state}".replace("  ", " "), entry, evidence)


def _explanation(subject: str, decision: str, entry: Entry, evidence: Sequence[Json]) -> JsonObject:
    reason, at = str(entry.value.get("reason") or ""), entry.value.get("finished_at") or entry.value.get("ended_at")
    return {
        "subject": subject, "decision": decision, "reason": reason, "evidence": evidence, "would_change": "",
        "decided_at": at,
    }  # fmt: skip


def _nearest(store: Store, subject: str) -> str:
    known = {e.key.split("/")[1] for prefix in ("decision/", "run/", "system/") for e in store.scan(prefix)}
    known |= {e.key.removeprefix("latest/") for e in store.scan("latest/")}
    near = get_close_matches(subject, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(sorted(known)[:12])}" if known else "nothing has run yet: platformops up SPEC"


def _print(explanation: JsonObject) -> None:
    from platformops.cli.output import say

    at = explanation.get("decided_at")
    when = f" ({datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC)" if isinstance(at, int | float) else ""
    say(f"{explanation['subject']}: {explanation['decision']}{when}")
    if explanation["reason"]:
        say(f"  because {explanation['reason']}")
    evidence = explanation["evidence"]
    for item in evidence if isinstance(evidence, Sequence) else ():
        say(f"  - {_line(item)}")
    if explanation.get("would_change"):
        say(f"  another decision: {explanation['would_change']}")


def _line(item: Json) -> str:
    """A gate as `accuracy passed: reason`, else `name: value` of what there is."""
    if not isinstance(item, Mapping):
        return str(item)
    if "passed" in item:
        return f"{item.get('name', '')} {'passed' if item['passed'] else 'refused'}: {item.get('reason', '')}"
    return ", ".join(f"{name}: {value}" for name, value in item.items() if value not in (None, "", []))
