"""The crank of the drift loops: watch the answers of every system, decide, commit, act; in a thread of its own.

A lease of its own fences it, as it fences node health: reading many answers must hold up neither of the other two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from platformops.clock import Clock
from platformops.delivery import drift_loop
from platformops.delivery.decisions import decision_puts
from platformops.delivery.drift_loop import DriftLoop, LoopState, Verdict
from platformops.delivery.records import Decision, Rollout, RolloutState
from platformops.delivery.retraining import (
    Order,
    Outcome,
    Recipe,
    load_loop,
    load_outcome,
    load_recipes,
    loop_decision,
    loop_json,
    loop_key,
    order_of,
)
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import UP, load_rollout, load_system
from platformops.errors import PlatformError, StoreConflict
from platformops.observation.drift.answers import Answer, AnswerWatch, Found
from platformops.observation.platform_state import DRIFT_STATUS
from platformops.store.lease import fence, held, take
from platformops.store.records import Put, Store

LEASE = "lease/drift"
LOOK_S = 5.0
"""Between two looks at the answers of a system."""
MOST_PROFILED = 500
"""Pictures that are read at one look; a controller that starts takes several to catch up."""
LOOK_SHARE = 0.05
"""Most of a core's time that looking at answers may take."""
Profile = tuple[float, ...]


class RetrainingPorts(Protocol):
    """What the edge does for drift loops. Each call returns at once, or within the time that reading takes."""

    def work(self, order: Order, recipe: Recipe) -> None:
        """Begins to carry the order out, unless that is under way; its outcome comes into the store. Called again for
        as long as there is none, so that work whose process died is begun anew."""
        ...

    def profiles(self, system: str, ids: Sequence[str]) -> Mapping[str, Profile]:
        """What the inputs of these requests are like, of those that were kept; nothing in numbers for what is no
        picture."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """One loop with everything that is decided on."""

    recipe: Recipe
    loop: DriftLoop
    stable: str
    """The model version that answers; empty for none."""
    found: Found | None = None
    """The newest change of that version's answers that was not taken up."""
    labels: int = 0
    """Rows with their input that were labelled since the change, for a loop that waits for them."""
    outcome: Outcome | None = None
    rollout: Rollout | None = None
    """That RELEASE asked for."""


@dataclass(frozen=True, slots=True)
class Decided:
    loop: DriftLoop
    decisions: tuple[Decision, ...] = ()


def decide(seen: Seen, now: float) -> Decided:
    """Pure: where the loop goes, and what is said of it."""
    loop, found = seen.loop, seen.found
    if found is not None and (seen.stable, found.at) != loop.heard:
        return _heard(seen, replace(loop, heard=(seen.stable, found.at)), found, now)
    if loop.state is LoopState.WATCHING and loop.pending:
        return _moved(drift_loop.confirmed(
            loop, loop.pending, since=loop.pending_since, now=now, policy=seen.recipe.policy
        ), loop, now)  # fmt: skip
    if loop.state is LoopState.CHOOSING and not loop.gathered_at and seen.labels >= seen.recipe.policy.fewest_labels:
        return _moved(drift_loop.gathered(loop, seen.labels, now), loop, now)
    if seen.outcome is not None:
        return _moved(_after(seen, seen.outcome, now), loop, now, seen.outcome)
    return _moved(drift_loop.looked(loop, now, seen.recipe.policy), loop, now)


def _heard(seen: Seen, loop: DriftLoop, found: Found, now: float) -> Decided:
    """A drift that was just confirmed, for what it is: taken up, kept for later, or only said."""
    cause = found.drift.reason
    evidence = [{"stream": found.drift.stream.name, "kind": found.drift.stream.kind.value, "since": found.since}]
    if not seen.recipe.retrain:
        reason = f"{cause}; `watch.retrain` is off, so nothing is trained"
        said = Decision(loop.system, f"{seen.stable} has drifted", reason, evidence, "watch: {retrain: true}", now)
        return Decided(replace(loop, reason=reason), (said,))
    step = drift_loop.confirmed(loop, cause, since=found.since, now=now, policy=seen.recipe.policy)
    if step.has_moved:
        return Decided(step.loop, (loop_decision(step.loop, now, evidence),))
    said = Decision(loop.system, f"{seen.stable} has drifted", step.loop.reason, evidence, "", now)
    return Decided(step.loop, (said,))


def _moved(step: drift_loop.Step, before: DriftLoop, now: float, outcome: Outcome | None = None) -> Decided:
    if not step.has_moved:
        return Decided(step.loop)
    return Decided(step.loop, (loop_decision(step.loop, now, outcome.evidence if outcome else ()),))


def _after(seen: Seen, outcome: Outcome, now: float) -> drift_loop.Step:
    """What an outcome makes of the loop."""
    loop, policy = seen.loop, seen.recipe.policy
    if outcome.failure:
        # The drift is as it was, and nothing was shown about it: it is taken up again after the cooldown.
        again = replace(loop, pending=loop.cause, pending_since=loop.since)
        return drift_loop.failed(again, outcome.failure, now, policy)
    match loop.state:
        case LoopState.CHOOSING:
            return drift_loop.chosen(loop, outcome.told, now)
        case LoopState.TRAINING:
            return drift_loop.trained(replace(loop, version=outcome.version), outcome.told, now)
        case LoopState.GATING:
            return drift_loop.judged(loop, Verdict(outcome.is_better, outcome.told), now, policy)
        case _:
            return _released(seen, now)


def _released(seen: Seen, now: float) -> drift_loop.Step:
    loop, rollout = seen.loop, seen.rollout
    if rollout is None or is_running(rollout):
        return drift_loop.Step(loop, False)
    if rollout.state is RolloutState.PROMOTED:
        return drift_loop.released(loop, rollout.candidate.version_name, now)
    return drift_loop.failed(loop, f"{rollout.name} {rollout.state.value}: {rollout.reason}", now, seen.recipe.policy)


class RetrainingController:
    """One controller's life. The loops are in the store; what is known of answers is read again from the samples."""

    def __init__(self, store: Store, ports: RetrainingPorts, clock: Clock, holder: str) -> None:
        self._store, self._ports, self._clock = store, ports, clock
        self.epoch = take(store, LEASE, holder, clock.now())
        self._watches: dict[str, tuple[str, AnswerWatch]] = {}
        self._profiles: dict[str, dict[str, Profile | None]] = {}
        """By system and request; None for one whose input was not kept."""
        self._looked_at: dict[str, float] = {}

    def turn(self) -> tuple[str, ...]:
        """One turn over all loops; what could not be done, to be tried again. Raises LeaseLost when a newer controller
        has taken over, and StoreError when nothing can be read."""
        problems = []
        for recipe in load_recipes(self._store).values():
            try:
                self._turn(recipe)
            except StoreConflict:
                continue  # a person paused or resumed it meanwhile, or a decision was recorded: it is decided again
            except PlatformError as error:
                held(self._store, LEASE, self.epoch)
                problems.append(f"{recipe.system}: {error.message}")
        return tuple(problems)

    def _turn(self, recipe: Recipe) -> None:
        lease, now = held(self._store, LEASE, self.epoch), self._clock.now()
        loop, version = load_loop(self._store, recipe.system)
        seen = self._seen(recipe, loop, now)
        if not seen.stable:
            return  # what a person took down is not brought up again by a loop
        decided = decide(seen, now)
        if decided.loop != loop or decided.decisions:
            put = Put(loop_key(recipe.system), loop_json(decided.loop), expect=version)
            self._store.commit([fence(lease), put, *decision_puts(self._store, decided.decisions)])
        order = order_of(decided.loop)
        if order is not None and load_outcome(self._store, order) is None:
            self._ports.work(order, recipe)

    def _seen(self, recipe: Recipe, loop: DriftLoop, now: float) -> Seen:
        system, _ = load_system(self._store, recipe.system)
        stable = system.stable.version_name if system and system.stable and system.wanted == UP else ""
        found, labels = self._look(recipe, loop, stable, now)
        order = order_of(loop)
        outcome = load_outcome(self._store, order) if order else None
        rollout = load_rollout(self._store, recipe.system, outcome.rollout) if outcome and outcome.rollout else None
        return Seen(recipe, loop, stable, found, labels, outcome, rollout)

    def _look(self, recipe: Recipe, loop: DriftLoop, stable: str, now: float) -> tuple[Found | None, int]:
        """The newest change in the answers, and how many rows a retraining could use; nothing between two looks."""
        if not stable or now < self._looked_at.get(recipe.system, -math.inf):
            return None, 0
        began = self._clock.monotonic()
        answers = self._answers(recipe)
        own = [answer for version, answer in answers if version == stable]
        kept, watch = self._watches.get(recipe.system, ("", AnswerWatch(begins_anew=True)))
        if kept != stable:
            watch = AnswerWatch(begins_anew=True)
        self._watches[recipe.system] = (stable, watch)
        is_heard = loop.heard[0] == stable
        found = [f for f in watch.observe(own) if not is_heard or f.at > loop.heard[1]]
        self._store.put(f"{DRIFT_STATUS}{recipe.system}", {"at": now, "evidence": watch.evidence()}, expect=None)
        took_s = self._clock.monotonic() - began
        self._looked_at[recipe.system] = now + max(LOOK_S, took_s / LOOK_SHARE)
        labels = sum(1 for _, a in answers if a.truth and self._is_kept(recipe.system, a) and a.at >= loop.since)
        return (found[-1] if found else None), labels

    def _is_kept(self, system: str, answer: Answer) -> bool:
        return self._profiles.get(system, {}).get(answer.id) is not None

    def _answers(self, recipe: Recipe) -> list[tuple[str, Answer]]:
        """Model version and answer of every sample that is kept."""
        values = [entry.value for entry in self._store.scan(f"sample/{recipe.system}/")]
        if not recipe.retrain:
            return [(str(v["model_version"]), answer_of(v, {})) for v in values]
        values.sort(key=lambda v: float(str(v["at"])))
        ids, known = [str(v["request_id"]) for v in values], self._profiles.get(recipe.system, {})
        known = {id: known[id] for id in ids if id in known}
        fresh = [id for id in ids if id not in known][:MOST_PROFILED]
        if fresh:
            known |= {id: None for id in fresh} | dict(self._ports.profiles(recipe.system, fresh))
        self._profiles[recipe.system] = known
        seen = {id: profile for id, profile in known.items() if profile}
        return [(str(v["model_version"]), answer_of(v, seen)) for v in values if str(v["request_id"]) in known]


def answer_of(sample: Mapping[str, object], profiles: Mapping[str, Profile]) -> Answer:
    """A sample's record as the watch takes it."""
    id, at = str(sample.get("request_id", "")), float(str(sample["at"]))
    truth = str(sample.get("truth") or "")
    return Answer(
        id, at, str(sample["label"]), truth, float(str(sample.get("truth_at") or at)) if truth else 0.0,
        profiles.get(id, ()),
    )  # fmt: skip
