"""Sends a version back whose replicas die of it: a look at their lives, a decision by expected cost, then the order."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from platformops.delivery.decisions import decision_puts
from platformops.delivery.orders import roll_back
from platformops.delivery.records import Decision, GateResult, Revision, System
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import UP, load_rollout, load_systems, newest_rollout
from platformops.errors import StoreConflict, UserError
from platformops.health.crashes import Blame, Life, blamed, remedy_for
from platformops.health.remedy import Choice, Remedy
from platformops.store.records import JsonObject, Store

WHO = "node health"


class ReplicaHealth:
    """Of all systems in the store; what it orders is found there again by whoever comes after it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._alarmed: set[str] = set()
        """Revisions that people were told of, as nothing could be done; told again by the next controller."""

    def look(self, lives: Sequence[Life], sound: Collection[str], now: float) -> tuple[str, ...]:
        """What could not be done, to be tried again. A version that is being released is judged by its release."""
        blames = blamed(lives, sound, now)
        if not blames:
            return ()
        problems = []
        for system, _ in load_systems(self._store).values():
            blame = blames.get(system.stable.name) if system.stable and system.wanted == UP else None
            if blame is not None and system.stable is not None:
                problems += self._judge(system, system.stable, blame, now)
        return tuple(problems)

    def _judge(self, system: System, stable: Revision, blame: Blame, now: float) -> list[str]:
        choice = remedy_for(blame)
        if choice.remedy is not Remedy.ROLL_BACK or is_running(newest_rollout(self._store, system.name)[0]):
            return []
        found = found_of(stable, blame, choice)
        brought = load_rollout(self._store, system.name, stable.number)
        if brought is not None and not brought.terms.rolls_back:
            self._alarm(system, stable, f"{found.reason}; release.on_degrade is alarm", now)
            return []
        try:
            roll_back(self._store, system.name, who=WHO, now=now, found=found)
        except UserError as error:
            self._alarm(system, stable, f"{found.reason}; {error.message}", now)
        except StoreConflict as conflict:
            return [f"roll back {system.name}: {conflict.message}"]
        return []

    def _alarm(self, system: System, stable: Revision, reason: str, now: float) -> None:
        if stable.name in self._alarmed:
            return
        subjects = (system.name, stable.version_name)
        decisions = [Decision(subject, "raised an alarm", reason, (), "", now) for subject in subjects]
        self._store.commit(decision_puts(self._store, decisions))
        self._alarmed.add(stable.name)


def found_of(stable: Revision, blame: Blame, choice: Choice) -> GateResult:
    """What speaks against the version, as releases say it."""
    wait, back = choice.costs[Remedy.WAIT], choice.costs[Remedy.ROLL_BACK]
    reason = (
        f"replicas of {stable.version_name} ({stable.name}) crashed {blame.crashes} times on {blame.nodes} nodes: "
        f"{blame.probability:.1%} that they die of the version, and neither of a node nor by chance; "
        f"expected cost of an hour {wait:,.0f} slot-seconds, of going back {back:,.0f}"
    )
    evidence: JsonObject = {
        "probability": round(blame.probability, 4), "crashes": blame.crashes, "nodes": blame.nodes,
        "costs_slot_s": {r.value: round(c, 1) for r, c in choice.costs.items()},
    }  # fmt: skip
    return GateResult("crashes", False, reason, evidence, "fewer crashes, or on one node only")
