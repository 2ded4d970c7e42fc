"""Gates on a candidate's rehearsal: how its answers look, what it makes of rows, and how it bears several requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from platformops.delivery.records import GateResult, Rehearsal
from platformops.delivery.sequential import above
from platformops.store.records import Json, JsonObject

SCHEMA, TRANSFORM, LOAD, MEMORY = "schema", "transform", "latency_under_load", "memory_under_load"
FALSE_ALARMS = 0.001
"""Of candidates that are within the margin, those that are refused for latency: traffic is a better judge of it."""
MOST_RISE = 0.03
LEAST_RISE_BYTES = 8 * 2**20
"""What a process rises by between two halves of the same load is a leak from both on; one that has settled is still."""
SHOWN = 3


def fields_of(answer: Json, classes: Sequence[str]) -> Mapping[str, str]:
    """The kinds of an answer's fields by path: `label` -> `text`, `probabilities.*` -> `number`, the keys of an object
    that are all names of classes being one."""
    found: dict[str, set[str]] = {}
    _walk(answer, "", set(classes), found)
    return {path: "|".join(sorted(kinds)) for path, kinds in found.items()}


def fields_together(answers: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """The kinds of several answers' fields."""
    kinds: dict[str, set[str]] = {}
    for fields in answers:
        for path, kind in fields.items():
            kinds.setdefault(path, set()).update(kind.split("|"))
    return {path: "|".join(sorted(found)) for path, found in kinds.items()}


def _walk(value: Json, path: str, classes: set[str], found: dict[str, set[str]]) -> None:
    match value:
        case Mapping():
            is_by_class = bool(value) and set(value) <= classes
            for key, one in value.items():
                _walk(one, f"{path}.{'*' if is_by_class else key}".lstrip("."), classes, found)
        case str() | None | bool() | int() | float():
            found.setdefault(path or ".", set()).add(_kind(value))
        case _:
            for one in value:
                _walk(one, f"{path}[]", classes, found)


def _kind(value: str | float | bool | None) -> str:
    if isinstance(value, str):
        return "text"
    if value is None or isinstance(value, bool):
        return "null" if value is None else "truth"
    return "number"


def judge(seen: Rehearsal, *, latency_margin: float, is_exact: bool) -> tuple[GateResult, ...]:
    """A result for each part of the rehearsal that took place. `is_exact` says whether rows must be made the same
    numbers as in training: a tolerance of the gate `parity` lets other decoders be used."""
    results = (
        _schema(seen.fields, seen.stable_fields) if seen.fields and seen.stable_fields else None,
        _transform(seen, is_exact=is_exact) if seen.transformed else None,
        _load(seen, latency_margin) if seen.asked else None,
        _memory(*seen.memory_bytes) if all(seen.memory_bytes) else None,
    )
    return tuple(result for result in results if result)


def _schema(own: Mapping[str, str], stable: Mapping[str, str]) -> GateResult:
    """Whatever reads stable's answers can read the candidate's: each field is there, and of a kind that it had."""
    lost = sorted(set(stable) - set(own))
    changed = [p for p in sorted(set(stable) & set(own)) if not set(own[p].split("|")) <= set(stable[p].split("|"))]
    evidence: JsonObject = {"lost": lost, "changed": changed, "new": sorted(set(own) - set(stable))}
    if not lost and not changed:
        return GateResult(SCHEMA, True, f"schema: answers have the {len(stable)} fields of stable", evidence, "another")
    said = [f"{path} is missing" for path in lost] + [f"{p} was {stable[p]}, is {own[p]}" for p in changed]
    reason = f"schema: answers cannot be read as stable's: {'; '.join(said[:SHOWN])}"
    return GateResult(SCHEMA, False, reason, evidence, "stable's fields, with new ones beside them")


def _transform(seen: Rehearsal, *, is_exact: bool) -> GateResult:
    evidence: JsonObject = {"rows": seen.transformed, "differing": list(seen.differing[:SHOWN])}
    if not seen.differing:
        reason = f"transform: {seen.transformed} rows are made the same numbers as in training"
        return GateResult(TRANSFORM, True, reason, evidence, "one that is not")
    reason = (
        f"transform: {len(seen.differing)} of {seen.transformed} rows are made other numbers than in training "
        f"(row {seen.differing[0]})"
    )
    if not is_exact:
        return GateResult(TRANSFORM, True, f"{reason}; the tolerance of parity lets them be", evidence, "parity: exact")
    return GateResult(TRANSFORM, False, reason, evidence, "the same decoding and transform offline and live")


def _load(seen: Rehearsal, margin: float) -> GateResult:
    evidence: JsonObject = {
        "asked": seen.asked, "answered": seen.answered, "pairs": seen.pairs, "slower": seen.slower,
        "p99_ms": round(seen.p99_ms, 3), "margin": margin,
    }  # fmt: skip
    said = f"{LOAD}: {seen.answered} of {seen.asked} requests answered, several at a time, p99 {seen.p99_ms:.4g} ms"
    if seen.answered < seen.asked:
        return GateResult(LOAD, False, f"{said}: {seen.problem}", evidence, "an answer to every request")
    if not seen.pairs:
        return GateResult(LOAD, True, said, evidence, "a request without an answer")
    told = f"{said}; {seen.slower} of {seen.pairs} took more than {margin:.0%} longer than stable at the same time"
    is_slow = above(seen.slower, seen.pairs, 0.5) >= math.log(1 / FALSE_ALARMS)
    return GateResult(LOAD, not is_slow, told, evidence, "more than half" if not is_slow else "no more than half")


def _memory(half_way: int, at_end: int) -> GateResult:
    rise = at_end - half_way
    evidence: JsonObject = {"half_way_bytes": half_way, "at_end_bytes": at_end, "margin": MOST_RISE}
    said = f"{MEMORY}: {at_end / 2**20:,.0f} MiB, {rise / half_way:+.1%} in the second half of the same load"
    is_leak = rise > LEAST_RISE_BYTES and rise > MOST_RISE * half_way
    return GateResult(MEMORY, not is_leak, said, evidence, f"{'no more' if is_leak else 'more'} than {MOST_RISE:.0%}")
