"""How a value that somebody else wrote is shown to a person: bounded, and unable to steer a terminal or a log."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

from platformops.store.records import Json

MOST_CHARACTERS = 80
_STEERING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are not ink: controls, bidirectional marks, surrogates, private use, line separators."""


def escaped(text: str) -> str:
    """`text` with every character that could move a cursor, change a colour or reverse the line as `\\xNN`."""
    return "".join(
        c if unicodedata.category(c) not in _STEERING else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )


def shown(value: Json) -> str:
    """`value` as JSON, escaped and cut to one short line."""
    text = escaped(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}..."


def nearest(word: object, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of `known`, or nothing."""
    near = get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The nearest of `known`, or else a short list of what is accepted."""
    names = sorted(known)
    listed = f"; one of {', '.join(names)}" if 0 < len(names) <= 12 else ""
    return nearest(word, names) or listed
