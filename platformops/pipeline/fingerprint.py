"""Turns what identifies a step into one digest that is the same on every machine, or refuses."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

from platformops.errors import UserError
from platformops.pipeline.records import StepKey
from platformops.store.records import JsonObject

FORMAT = "step 1\n"
"""Part of every fingerprint: a change of the encoding below must not find artifacts of the old one."""


def fingerprint(key: StepKey) -> str:
    """64 hex digits; equal for equal keys whatever the order of their mappings. Raises UserError, naming the path."""
    text = canonical(key_json(key), at=key.stage)
    return hashlib.sha256((FORMAT + text).encode("ascii")).hexdigest()


def key_json(key: StepKey) -> JsonObject:
    """The key as plain JSON, as it is kept in `latest/...` to explain the next change."""
    return {
        "stage": key.stage,
        "code": dict(key.code),
        "params": dict(key.params),
        "parents": dict(key.parents),
        "sources": dict(key.sources),
    }


def canonical(value: object, *, at: str) -> str:
    """JSON with sorted keys and no luck in it; `1`, `1.0` and `true` stay different. Tuples read as lists."""
    refuse_unstable(value, at)
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"), default=_plain_mapping)


def _plain_mapping(value: object) -> object:
    assert isinstance(value, Mapping), "refuse_unstable lets only JSON through"
    return dict(value)


def refuse_unstable(value: object, at: str) -> None:
    """Raises UserError for the first value below `at` that has no stable text: NaN, sets, objects, bytes..."""
    # Exact types: a subclass (an enum, a numpy scalar) may print differently in its next version.
    if value is None or type(value) in (bool, int, str):
        return
    if type(value) is float:
        if not math.isfinite(value):
            raise _unstable(at, f"{value} is not a number that can be compared", "use a finite number, or leave it out")
    elif isinstance(value, Mapping):
        _refuse_unstable_mapping(value, at)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            refuse_unstable(inner, f"{at}[{index}]")
    else:
        raise _unstable(at, f"a value of type {type(value).__name__}", "use text, numbers, lists and mappings")


def _refuse_unstable_mapping(value: Mapping[object, object], at: str) -> None:
    for key, inner in value.items():
        if type(key) is not str:
            raise _unstable(f"{at}.{key!r}", f"a key of type {type(key).__name__}", "quote it: keys are text")
        refuse_unstable(inner, f"{at}.{key}")


def _unstable(at: str, what: str, remedy: str) -> UserError:
    return UserError(f"{at}: {what}, so it has no stable fingerprint", remedy=remedy)
