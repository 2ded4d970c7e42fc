"""YAML as a person would write it: block lists, and quotes only where they are needed."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PLAIN = re.compile(r"^[A-Za-z0-9_./$][A-Za-z0-9_./$ =+@,()^~;<>\\-]*$", re.ASCII)
_OTHER = re.compile(r"^(?:true|false|yes|no|on|off|null|~|[-+]?[0-9._]+(?:e[-+]?[0-9]+)?|0[xo][0-9a-f]+)$", re.I)
"""Words that YAML takes for something else than a text."""


def scalar(text: str) -> str:
    """`text` as one scalar on one line: plain where that reads back as the same text, else in quotes."""
    if _PLAIN.match(text) and not _OTHER.match(text) and text == text.strip():
        return text
    return "'" + text.replace("'", "''") + "'"


def block(items: Iterable[str], indent: str) -> str:
    """A list, an item a line."""
    return "\n".join(f"{indent}- {scalar(item)}" for item in items)


def flow(items: Iterable[str]) -> str:
    """`[a, b]`."""
    return f"[{', '.join(_in_flow(item) for item in items)}]"


def _in_flow(text: str) -> str:
    written = scalar(text)
    return f"'{text}'" if "," in written and not written.startswith("'") else written
