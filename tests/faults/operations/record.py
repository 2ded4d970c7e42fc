"""An operation that changes durable state, with what must hold after it was cut off at any system call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]
"""Called once something is acknowledged: from then on it must be there whatever happens."""


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    prepare: Callable[[Path], None]
    """The whole and quiet state before, in an empty folder."""
    act: Callable[[Path, Say], None]
    """May be cut off anywhere; may be called again in the same process after it raised."""
    check: Callable[[Path, Sequence[str]], None]
    """Asserts what must hold given what was said, with no repair by hand, and that the operation works when next done.
    """
