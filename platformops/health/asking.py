"""What is asked of the cluster for each node, from the records alone: what was lost on its way is asked again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median

from platformops.health.nodes import NodeRecord, Wish, Wished
from platformops.health.remedy import Remedy
from platformops.health.risk import Risk
from platformops.health.sight import (
    AWAY,
    SILENT_PROBE_S,
    Action,
    Avoid,
    Checkpoint,
    Drain,
    PlaceProbe,
    Retire,
    Seen,
    is_heard,
)
from platformops.health.signs import HORIZON_S
from platformops.health.states import NodeState

CLOSED = frozenset({NodeState.PROBATION, NodeState.BARRED})
DOUBTFUL = frozenset({NodeState.SUSPECT, NodeState.UNHEALTHY})
UNUSUAL_RATIO, MOST_CERTAIN = 2.0, 0.99
ASKED_FOR_S = 10.0
"""How long a checkpoint is asked for, should the first call be lost."""


def actions_of(
    seen: Seen, records: Mapping[str, NodeRecord], risks: Mapping[str, Risk], now: float
) -> tuple[Action, ...]:
    """All of them, whether asked for before or not; `risks` are those that were judged just now."""
    return tuple(_Asking(seen, records, now).all(risks))


class _Asking:
    """One look at the records of the living."""

    def __init__(self, seen: Seen, records: Mapping[str, NodeRecord], now: float) -> None:
        self._seen, self._records, self._now = seen, records, now
        self._living = {node for node, member in seen.members.items() if member.is_alive}

    def all(self, risks: Mapping[str, Risk]) -> list[Action]:
        actions: list[Action] = []
        for node in sorted(self._living):
            actions += self._actions_for(node)
        closed = tuple(n for n in sorted(self._living) if self._is_closed(n))
        # Where no other node is left, work on a doubtful one is better than none.
        open_nodes = [n for n in sorted(self._living) if n not in closed and not self._records[n].is_dead]
        suspects = tuple(n for n in open_nodes if self._records[n].condition.state in DOUBTFUL)
        return [*actions, Avoid(closed if open_nodes else (), suspects, self._rates_per_s(risks))]

    def _rates_per_s(self, risks: Mapping[str, Risk]) -> Mapping[str, float]:
        """By what is seen of each now, in two digits: what differs by less is not worth telling everybody."""
        seen = {n: view.risk for n, view in self._seen.views.items() if n in self._living} | {**risks}
        chances = {n: min(risk.actionable, MOST_CERTAIN) for n, risk in seen.items() if n in self._living}
        rates = {n: float(f"{-math.log1p(-chance) / HORIZON_S:.1e}") for n, chance in chances.items()}
        usual = median(rates.values()) if rates else 0.0
        return {"": usual, **{n: rate for n, rate in sorted(rates.items()) if rate > UNUSUAL_RATIO * usual}}

    def _actions_for(self, node: str) -> list[Action]:
        record, member, view = self._records[node], self._seen.members[node], self._seen.views.get(node)
        if record.is_dead:
            return [Retire(node, record.reason)] if self._may_retire(node) and not member.is_vital else []
        actions: list[Action] = []
        wish = self._seen.wishes.get(node, Wished())
        if (record.remedy in (Remedy.MOVE, Remedy.DRAIN) or wish.wish is Wish.DRAINED) and not member.is_vital:
            why = record.reason if record.remedy is not Remedy.WAIT else f"{wish.who} wishes it"
            actions += [] if member.is_draining else [Drain(node, why)]
        if (view is None or view.incarnation < record.incarnation) and self._now - record.placed_at < SILENT_PROBE_S:
            actions.append(PlaceProbe(node, record.incarnation))
        if self._now - record.checkpoint_at < ASKED_FOR_S:
            actions.append(Checkpoint(node, record.checkpoint_at))
        return actions

    def _may_retire(self, node: str) -> bool:
        """Where most of the others are silent too, the fault may be here, and a verdict on them is only remembered."""
        others = [n for n in self._living if n != node and not self._records[n].is_dead]
        heard = [n for n in others if is_heard(self._seen.views.get(n))]
        return not others or len(heard) > 0.5 * len(others) - 1e-9

    def _is_closed(self, node: str) -> bool:
        record, wish = self._records[node], self._seen.wishes.get(node, Wished()).wish
        if record.drill:
            return True
        return record.condition.state in CLOSED or record.remedy in AWAY or wish in (Wish.CORDONED, Wish.DRAINED)
