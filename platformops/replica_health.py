"""Sends a version back whose replicas die of it: a look at their lives, a decision by expected cost, then the order."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from platformops.delivery.decisions import decision_puts
from platformops.delivery.orders import go_back
from platformops.delivery.records import Decision, GateResult, Revision, RolloutKind, RolloutState
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import UP, load_systems, rollouts
from platformops.errors import StoreConflict, UserError
from platformops.health.crashes import Blame, Life, blamed, remedy_for
from platformops.health.remedy import Choice, Remedy
from platformops.store.records import JsonObject, Store


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
            if blame is None or system.stable is None:
                continue
            try:
                self._judge(system.stable, blame, now)
            except StoreConflict as conflict:
                problems.append(f"roll back {system.name}: {conflict.message}")
        return tuple(problems)

    def _judge(self, stable: Revision, blame: Blame, now: float) -> None:
        choice = remedy_for(blame)
        if choice.remedy is not Remedy.ROLL_BACK:
            return
        found = found_of(stable, blame, choice)
        try:
            why_not = self._why_it_stays(stable)
            if not why_not:
                go_back(self._store, stable, found, now=now)
        except UserError as error:
            why_not = error.message
        if why_not and stable.name not in self._alarmed:
            decisions = [
                Decision(subject, "raised an alarm", f"{found.reason}; {why_not}", (), "", now)
                for subject in (stable.system, stable.version_name)
            ]
            self._store.commit(decision_puts(self._store, decisions))
            self._alarmed.add(stable.name)

    def _why_it_stays(self, stable: Revision) -> str:
        """Empty where nothing speaks against going back."""
        before = rollouts(self._store, stable.system)
        brought = next((r for r in before if r.candidate == stable and r.state is RolloutState.PROMOTED), None)
        if brought is not None and not brought.terms.rolls_back:
            return "release.on_degrade is alarm"
        if brought is not None and brought.kind is RolloutKind.ROLLBACK:
            return "it was itself gone back to: two versions that suffer from one cause would send each other back"
        left = [r for r in before if r.kind is RolloutKind.ROLLBACK and r.stable == stable and not is_running(r)]
        return f"going back was tried before ({left[0].name}: {left[0].reason})" if left else ""


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
