"""The one function that moves any state machine of the platform."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from platformops.errors import InvalidTransition

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


def advance(table: Mapping[tuple[S, E], S], state: S, event: E, *, subject: str) -> S:
    """The state after `event`; raises InvalidTransition, listing what is accepted, for a pair not in the table."""
    if (state, event) in table:
        return table[state, event]
    accepted = sorted(str(e.value) for s, e in table if s is state)
    raise InvalidTransition(
        f"{subject} is {state.value} and cannot take {event.value}",
        remedy=f"send one of {accepted}" if accepted else f"{state.value} is terminal: start a new one",
    )


def terminal(table: Mapping[tuple[S, E], S]) -> frozenset[S]:
    """The states that nothing leaves."""
    return frozenset(table.values()) - {s for s, _ in table}
