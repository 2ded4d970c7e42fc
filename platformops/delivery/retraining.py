"""What a drift loop keeps in the store: how its system is made, its own state, and what its work came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum

from platformops.delivery import drift_loop
from platformops.delivery.decisions import decision_puts
from platformops.delivery.drift_loop import DriftLoop, LoopPolicy, LoopState
from platformops.delivery.records import Decision
from platformops.errors import StoreError, UserError
from platformops.spec.environments import PRODUCTION
from platformops.store.records import ABSENT, Json, JsonObject, Put, Store, numbered

RECIPES = "recipe/"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a system is made again, as the command that released it last was given."""

    system: str
    spec: str
    """Absolute path."""
    overrides: tuple[str, ...] = ()
    environment: str = PRODUCTION
    """Of the spec's `environments`."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the process environment; none that may hold a secret."""
    retrain: bool = False
    """Whether a confirmed drift may start a run; without it the drift is only recorded."""
    cooldown_s: float = LoopPolicy().cooldown_s

    @property
    def policy(self) -> LoopPolicy:
        return LoopPolicy(cooldown_s=self.cooldown_s)


class Phase(Enum):
    """Work that a loop waits for."""

    CHOOSE = "choose"
    TRAIN = "train"
    COMPARE = "compare"
    RELEASE = "release"


PHASES = {
    LoopState.CHOOSING: Phase.CHOOSE,
    LoopState.TRAINING: Phase.TRAIN,
    LoopState.GATING: Phase.COMPARE,
    LoopState.RELEASING: Phase.RELEASE,
}


@dataclass(frozen=True, slots=True)
class Order:
    """One phase of one retraining; carrying it out twice gives the same outcome once."""

    system: str
    number: int
    phase: Phase
    since: float
    until: float
    """Rows that were labelled between the two are new."""
    version: int = 0
    """That was trained, in the phases after."""

    @property
    def key(self) -> str:
        return f"retraining/{self.system}/{numbered(self.number)}/{self.phase.value}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an order came to; `failure` says why it came to nothing."""

    told: str = ""
    """The window, the version or the verdict, in words."""
    failure: str = ""
    is_better: bool = False
    """Of COMPARE."""
    version: int = 0
    """Of TRAIN."""
    rollout: int = 0
    """Of RELEASE."""
    evaluation: Sequence[str] = ()
    """Of COMPARE: fingerprint and digest of the champion's evaluation on the newest rows; empty where there is none."""
    evidence: Sequence[Json] = ()


def recipe_puts(recipe: Recipe) -> tuple[Put, ...]:
    return (Put(RECIPES + recipe.system, {**asdict(recipe), "overrides": list(recipe.overrides)}, expect=None),)


def load_recipes(store: Store) -> Mapping[str, Recipe]:
    """Of every system whose answers are watched, by name."""
    found = [_recipe_from(entry.value) for entry in store.scan(RECIPES)]
    return {recipe.system: recipe for recipe in found}


def load_recipe(store: Store, system: str) -> Recipe | None:
    entry = store.get(RECIPES + system)
    return _recipe_from(entry.value) if entry else None


def loop_key(system: str) -> str:
    return f"drift/{system}"


def load_loop(store: Store, system: str) -> tuple[DriftLoop, int]:
    """The loop and the version of its record; one that watches, and ABSENT, before anything was decided."""
    entry = store.get(loop_key(system))
    return (loop_from(entry.value), entry.version) if entry else (DriftLoop(system), ABSENT)


def load_outcome(store: Store, order: Order) -> Outcome | None:
    entry = store.get(order.key)
    if entry is None:
        return None
    found = Outcome(**entry.value)  # type: ignore[arg-type]  # written by outcome_put
    return replace(found, evaluation=tuple(found.evaluation), evidence=tuple(found.evidence))


def outcome_put(order: Order, outcome: Outcome) -> Put:
    value = {**asdict(outcome), "evidence": list(outcome.evidence), "evaluation": list(outcome.evaluation)}
    return Put(order.key, value, expect=None)


def order_of(loop: DriftLoop) -> Order | None:
    """The work that the loop waits for; None while it waits for something else."""
    phase = PHASES.get(loop.state)
    if phase is None or not loop.gathered_at:
        return None
    return Order(loop.system, loop.number, phase, loop.since, loop.gathered_at, loop.version)


def pause(store: Store, system: str, *, who: str, now: float) -> DriftLoop:
    """The loop takes up nothing until it is resumed. Raises UserError for a system that is not watched,
    InvalidTransition while its model is released, and StoreConflict when the controller wrote at the same instant."""
    loop, version = _watched(store, system)
    if loop.state is LoopState.PAUSED:
        return loop
    return _written(store, drift_loop.paused(loop, who, now).loop, version, now)


def resume(store: Store, system: str, *, who: str, now: float) -> DriftLoop:
    """A paused loop watches again, and takes up what it missed."""
    loop, version = _watched(store, system)
    if loop.state is not LoopState.PAUSED:
        return loop
    return _written(store, drift_loop.resumed(loop, who, now).loop, version, now)


def loop_decision(loop: DriftLoop, now: float, evidence: Sequence[Json] = ()) -> Decision:
    """The move that the loop has just made."""
    about = f" (retraining {loop.number}: {loop.cause})" if loop.state in PHASES else ""
    return Decision(loop.system, f"the drift loop is {loop.state.value}{about}", loop.reason, evidence, "", now)


def loop_json(loop: DriftLoop) -> JsonObject:
    return {**asdict(loop), "state": loop.state.value, "started_at": list(loop.started_at), "heard": list(loop.heard)}


def loop_from(doc: JsonObject) -> DriftLoop:
    """Raises StoreError for what is no loop."""
    try:
        started_at, heard = doc["started_at"], doc["heard"]
        assert isinstance(started_at, Sequence)
        assert isinstance(heard, Sequence)
        return DriftLoop(**{  # type: ignore[arg-type]  # written by loop_json
            **doc,
            "state": LoopState(str(doc["state"])),
            "started_at": tuple(float(str(at)) for at in started_at),
            "heard": (str(heard[0]), float(str(heard[1]))),
        })  # fmt: skip
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise StoreError(f"the record of a drift loop cannot be read: {error}") from error


def _recipe_from(doc: JsonObject) -> Recipe:
    overrides, variables = doc["overrides"], doc["variables"]
    assert isinstance(overrides, Sequence), "written by recipe_puts"
    assert isinstance(variables, Mapping), "written by recipe_puts"
    return Recipe(
        str(doc["system"]),
        str(doc["spec"]),
        tuple(str(o) for o in overrides),
        str(doc["environment"]),
        {name: str(value) for name, value in variables.items()},
        bool(doc["retrain"]),
        float(str(doc["cooldown_s"])),
    )


def _watched(store: Store, system: str) -> tuple[DriftLoop, int]:
    if load_recipe(store, system) is None:
        raise UserError(f"{system!r} is not watched for drift", remedy="watch: {drift: auto}, then platformops up SPEC")
    return load_loop(store, system)


def _written(store: Store, loop: DriftLoop, version: int, now: float) -> DriftLoop:
    store.commit([
        Put(loop_key(loop.system), loop_json(loop), expect=version),
        *decision_puts(store, [loop_decision(loop, now)]),
    ])  # fmt: skip
    return loop
