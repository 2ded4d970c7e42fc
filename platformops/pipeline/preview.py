"""Says before anything runs which steps are cached, and of the others exactly what changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from platformops.pipeline.fingerprint import canonical, key_json
from platformops.pipeline.journal import StepRecord, latest_key, read_record
from platformops.pipeline.records import USES, Plan, Step, StepPreview, StepState
from platformops.store.records import Json, JsonObject, Store

LONGEST_VALUE = 60


def explain(plan: Plan, store: Store) -> tuple[StepPreview, ...]:
    """One preview a step, in the plan's order."""
    previews: dict[str, StepPreview] = {}
    for step in plan.steps:
        entry = store.get(f"step/{step.fingerprint}")
        record = read_record(entry.value) if entry else None
        latest = store.get(latest_key(plan.system, step.stage.name))
        previews[step.stage.name] = _preview(step, record, latest.value if latest else None)
    return tuple(previews.values())


def _preview(step: Step, record: StepRecord | None, latest: JsonObject | None) -> StepPreview:
    name = step.stage.name
    if record and record.state is StepState.DONE:
        return StepPreview(name, step.fingerprint, cached=True, seconds=record.seconds)
    seconds = latest.get("seconds") if latest else None
    return StepPreview(
        name,
        step.fingerprint,
        cached=False,
        reasons=tuple(why_not_cached(step, record, latest)),
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
    )


def why_not_cached(step: Step, record: StepRecord | None, latest: JsonObject | None) -> list[str]:
    """Sentences, the most telling first; never empty."""
    # Through text and back, as the latest key went: tuples have become lists there.
    changes = list(_changes(latest["key"], json.loads(canonical(key_json(step.key), at="key")))) if latest else []
    if record and record.state is not StepState.PENDING:
        return [_unfinished(record), *changes]
    if record and record.reason:
        return [record.reason]
    if changes:
        return changes
    return ["its record is gone from the store"] if latest else ["never ran"]


def _unfinished(record: StepRecord) -> str:
    if record.state is StepState.RUNNING:
        return f"not finished: last claimed by {record.owner} in run {record.run_id}"
    reason = record.reason.partition("\n")[0]
    return f"{record.state.value} last time" + (f": {reason}" if reason else "")


def _changes(before: Json, after: JsonObject) -> Iterator[str]:
    if not isinstance(before, Mapping):
        return
    yield from _params_changes("params", before.get("params"), after["params"])
    yield from _code_changes(_texts(before.get("code")), _texts(after["code"]))
    yield from _source_changes(_texts(before.get("sources")), _texts(after["sources"]))
    yield from _parent_changes(_texts(before.get("parents")), _texts(after["parents"]))


def _params_changes(at: str, before: Json, after: Json) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            where = f"{at}.{name}"
            if name not in before:
                yield f"{where} is new: {_short(after[name])}"
            elif name not in after:
                yield f"{where} was {_short(before[name])}, is gone"
            else:
                yield from _params_changes(where, before[name], after[name])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _params_changes(f"{at}[{index}]", old, new)
    elif before != after or type(before) is not type(after):
        yield f"{at} was {_short(before)}, is {_short(after)}"


def _code_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    if before.get(USES) != after.get(USES):
        yield f"uses was {before.get(USES)}, is {after.get(USES)}"
    for name in sorted({*before, *after} - {USES}):
        if before.get(name) != after.get(name):
            yield f"code of {name} {_verb(name, before, after)}"


def _source_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"data digest of {name} {_verb(name, before, after)}"


def _parent_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"parent {name} {_verb(name, before, after)}"


def _verb(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    if name not in before:
        return "is new"
    return "changed" if name in after else "is gone"


def _texts(value: Json) -> dict[str, str]:
    return {name: str(inner) for name, inner in value.items()} if isinstance(value, Mapping) else {}


def _short(value: Json) -> str:
    text = repr(value) if isinstance(value, str) else str(dict(value) if isinstance(value, Mapping) else value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
