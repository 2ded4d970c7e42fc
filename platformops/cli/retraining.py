"""The work of a drift loop, `python -m platformops.cli.retraining SYSTEM`: one phase of what it waits for, no verb."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from platformops.apps.load import load_app
from platformops.cli import retraining_rows, settings
from platformops.cli.cluster import ClusterOnDemand
from platformops.cli.retraining_rows import LabelledRow, answers_of, read_rows
from platformops.cli.running import EVALUATE, Ran, Session, carry_out
from platformops.clock import SystemClock
from platformops.delivery.drift_loop import compared
from platformops.delivery.records import Revision
from platformops.delivery.retraining import (
    Order,
    Outcome,
    Phase,
    Recipe,
    load_loop,
    load_outcome,
    load_recipe,
    order_of,
    outcome_put,
)
from platformops.delivery.systems import load_system, request_release
from platformops.errors import ClusterError, DataRefused, GateRefused, PlatformError, StoreError
from platformops.home import Home
from platformops.pipeline.records import Progress, RunState
from platformops.spec.environments import in_environment
from platformops.spec.load import load_spec
from platformops.spec.types import PlatformSpec
from platformops.store.artifacts import Artifacts

if TYPE_CHECKING:
    from platformops.apps.contract import App, Outputs
    from platformops.store.records import Store

TRAIN_FILE, RECENT_FILE = "train.parquet", "recent.parquet"
SPLIT = "{train: 0.85, validation: 0.15, test: 0.0}"
RETRIED = (StoreError, ClusterError)
"""What says nothing about the order: it is carried out again."""


def main() -> int:
    """Carries out the order that the system's loop waits for; at once done when another process is on it."""
    where, system = settings.home(), sys.argv[1]
    with _alone(where, system) as is_alone, settings.opened_store(where) as store:
        recipe, order = load_recipe(store, system), order_of(load_loop(store, system)[0])
        if is_alone and recipe is not None and order is not None and load_outcome(store, order) is None:
            outcome = _carried_out(order, recipe, where, store)
            if outcome is not None:
                store.commit([outcome_put(order, outcome)])
    return 0


def _carried_out(order: Order, recipe: Recipe, where: Home, store: Store) -> Outcome | None:
    """None for what is to be tried again: the loop goes on to wait."""
    phases: Mapping[Phase, Callable[[Work], Outcome | None]] = {
        Phase.CHOOSE: choose, Phase.TRAIN: train, Phase.COMPARE: compare, Phase.RELEASE: release,
    }  # fmt: skip
    try:
        return phases[order.phase](Work(order, recipe, where, store))
    except RETRIED as error:
        print(error, file=sys.stderr)
        return None
    except PlatformError as error:
        return Outcome(failure=error.message)
    except Exception as error:  # whatever a spec, an app or a row brings must end in a reason, not in silence
        return Outcome(failure=f"{type(error).__name__}: {error}")


class Work:
    """One order with all that its phases need."""

    def __init__(self, order: Order, recipe: Recipe, where: Home, store: Store) -> None:
        self.order, self.recipe, self.where, self.store = order, recipe, where, store
        self.spec_file = Path(recipe.spec)
        self.folder = where.retraining / order.system / str(order.number)
        self.artifacts = Artifacts(where.artifacts_url, cache=where.cache)
        self.clock = SystemClock()

    def spec(self) -> PlatformSpec:
        spec = load_spec(self.spec_file, overrides=self.recipe.overrides, data_root=settings.data_root())
        return in_environment(spec, self.recipe.environment)

    def app(self, spec: PlatformSpec) -> App:
        return load_app(str(spec.app), self.spec_file.parent)

    def stable(self) -> Revision:
        system, _ = load_system(self.store, self.order.system)
        if system is None or system.stable is None:
            raise DataRefused(f"{self.order.system} serves nothing any more")
        return system.stable

    def run(self) -> Ran:
        """The pipeline on the chosen rows; everything that was done already is a cache hit."""
        changes = (f"data.source={self.folder / TRAIN_FILE}", f"data.test={self.folder / RECENT_FILE}")
        overrides = (*self.recipe.overrides, *changes, f"data.split={SPLIT}")
        cluster = ClusterOnDemand(self.where, self.store, self.clock, _show)
        session = Session(
            self.where, self.store, self.clock, self.artifacts, _show, cluster, threading.Event()
        )  # fmt: skip
        return carry_out(self.spec_file, overrides, session, is_served=True, environment=self.recipe.environment)


def choose(work: Work) -> Outcome:
    """Tries the windows on the newest labels, and writes the rows of the best one and those to judge by."""
    from platformops.frameworks.torch import load_predictor

    spec, stable = work.spec(), work.stable()
    app, max_pixels = work.app(spec), spec.serve.max_pixels
    assert spec.data is not None, "a model has data"
    source = retraining_rows.source_rows(app, spec, work.spec_file.parent, settings.data_root())
    gathered = retraining_rows.gather(work.store, work.where.inputs, work.order, source)
    model = work.artifacts.open(stable.artifact, stable.manifest_digest)
    champion = answers_of(load_predictor(model, runtime="auto", threads=1, app=app), app, max_pixels)
    name, errors = retraining_rows.chosen_window(gathered, champion, app=app, max_pixels=max_pixels)
    rows = retraining_rows.window_rows(gathered, name)
    retraining_rows.write_rows(work.folder / TRAIN_FILE, rows, spec.data.columns)
    retraining_rows.write_rows(work.folder / RECENT_FILE, gathered.recent, spec.data.columns)
    told = f"{name}: {len(rows):,} rows, judged on the newest {len(gathered.recent)} labels"
    return Outcome(told, evidence=[{"window": window, "error": round(e, 4)} for window, e in sorted(errors.items())])


def train(work: Work) -> Outcome | None:
    """Runs the pipeline and registers what it makes."""
    ran = work.run()
    if ran.result.state is RunState.CANCELLED:
        return None
    if ran.version is None:
        failures = "; ".join(step.reason for step in ran.result.steps if step.failure)
        return Outcome(failure=ran.result.reason or failures or "the run made no model")
    evidence = [{"run": ran.result.run_id, "version": ran.version.name}]
    return Outcome(ran.version.name, version=ran.version.number, evidence=evidence)


def compare(work: Work) -> Outcome:
    """Candidate against champion on the newest labels, which neither was fitted to."""
    spec, ran, stable = work.spec(), work.run(), work.stable()
    app = work.app(spec)
    assert spec.data is not None, "a model has data"
    own = _evaluation(ran, work.artifacts)
    with np.load(own / "predictions.npz", allow_pickle=False) as found:
        ids, labels, probabilities = found["ids"].tolist(), found["labels"], found["probabilities"]
    names = json.loads((own / "metrics.json").read_text(encoding="utf-8"))["classes"]
    rows = {row.id: row for row in read_rows(work.folder / RECENT_FILE, spec.data.columns)}
    truths = [names[label] for label in labels]
    champion, classes = _champion(work, app, stable, [rows[id] for id in ids], spec.serve.max_pixels)
    errors = [float(classes[best] != truth) for best, truth in zip(champion.argmax(axis=1), truths, strict=True)]
    candidate = [float(best != label) for best, label in zip(probabilities.argmax(axis=1), labels, strict=True)]
    verdict = compared(errors, candidate)
    place = _published(work, app, ran, (ids, truths, champion, classes))
    means = {"champion_error": sum(errors) / len(errors), "candidate_error": sum(candidate) / len(candidate)}
    return Outcome(
        verdict.reason, is_better=verdict.is_better, evaluation=place, evidence=[{**means, "rows": len(errors)}]
    )


def release(work: Work) -> Outcome | None:
    """Asks for the guarded release, whose gates see the champion as it is on the same rows."""
    ran = work.run()
    if ran.version is None:
        return Outcome(failure="its run is not to be had any more")
    judged = load_outcome(work.store, replace(work.order, phase=Phase.COMPARE))
    place = tuple(judged.evaluation) if judged else ()
    data = ran.version.params["data"]
    classes = tuple(str(c) for c in data["classes"]) if isinstance(data, Mapping) else ()  # type: ignore[union-attr]
    try:
        asked = request_release(
            work.store, ran.planned.spec, ran.version, classes=classes, now=work.clock.now(),
            champion=(place[0], place[1]) if len(place) == 2 else None,
        )  # fmt: skip
    except GateRefused as error:
        print(error, file=sys.stderr)  # another release is running: its turn comes
        return None
    return Outcome(f"asked for {asked.name}", rollout=asked.number)


def _champion(
    work: Work, app: App, stable: Revision, rows: list[LabelledRow], max_pixels: int
) -> tuple[Outputs, tuple[str, ...]]:
    """What the champion answers to these rows, by the runtime that serves it, and its classes."""
    from platformops.frameworks.torch import load_predictor

    model = work.artifacts.open(stable.artifact, stable.manifest_digest)
    predictor = load_predictor(model, runtime="auto", threads=1, app=app)
    answers = np.exp(answers_of(predictor, app, max_pixels)([row.content for row in rows]))
    return (answers / answers.sum(axis=1, keepdims=True)).astype(np.float32), tuple(predictor.classes)


def _published(
    work: Work, app: App, ran: Ran, answered: tuple[list[str], list[str], Outputs, tuple[str, ...]]
) -> tuple[str, ...]:
    """The champion's evaluation on these rows as an artifact; empty where it does not know all of their classes."""
    ids, truths, probabilities, classes = answered
    if not set(truths) <= set(classes):
        return ()
    labels = np.array([classes.index(truth) for truth in truths], np.int64)
    own = _evaluation(ran, work.artifacts)
    named = f"{work.stable().version_name} {work.order.key} {(own / 'metrics.json').read_text(encoding='utf-8')}"
    fingerprint = hashlib.sha256(named.encode()).hexdigest()
    staging = work.artifacts.staging(fingerprint)
    (staging / "metrics.json").write_text(json.dumps(app.score(probabilities, labels, classes)), encoding="utf-8")
    np.savez(staging / "predictions.npz", ids=np.array(ids), labels=labels, probabilities=probabilities)
    return fingerprint, work.artifacts.publish(fingerprint, staging)


def _evaluation(ran: Ran, artifacts: Artifacts) -> Path:
    place = ran.version.artifacts.get(EVALUATE) if ran.version else None
    if not isinstance(place, Mapping):
        raise DataRefused("its run is not to be had any more")
    return artifacts.open(str(place["fingerprint"]), str(place["manifest_digest"]))


@contextmanager
def _alone(where: Home, system: str) -> Iterator[bool]:
    """True for the one process that works for this system; the kernel lets go of the lock however it ends."""
    where.retraining.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (where.retraining / f"{system}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield True


def _show(progress: Progress) -> None:
    with suppress(OSError):
        print(f"{progress.stage}: {progress.state} {progress.message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
