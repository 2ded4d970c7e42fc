"""Search on Ray Tune: ASHA stops poor trials early, Optuna proposes the next ones; an interrupted search goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from platformops.apps.load import load_app
from platformops.apps.prepared import open_prepared
from platformops.clock import SystemClock
from platformops.errors import StageFailed, UserError
from platformops.frameworks.torch import fit
from platformops.on_ray.avoiding import selector
from platformops.on_ray.gang_places import kept_off
from platformops.on_ray.priority import give_way
from platformops.on_ray.session import nodes
from platformops.on_ray.training_worker import model_params
from platformops.pipeline.records import Tell
from platformops.spec.types import SearchSpec, TrainSpec
from platformops.store.records import Json, JsonObject

CPUS_A_TRIAL = 0.5
"""Reserved; a trial computes on one thread. Half, so that served replicas do not keep trials from starting."""
REDUCTION = 3


def search(
    *,
    app: str,
    root: Path,
    dataset_directory: Path,
    spec: SearchSpec,
    settings: TrainSpec,
    scratch: Path,
    output: Path,
    progress: Tell,
) -> JsonObject:
    """Writes `best.json` (the best parameters and every trial) and returns the best trial's figures."""
    epochs = spec.epochs or max(1, settings.epochs // 3)
    base = settings.model_copy(update={"epochs": epochs, "time_limit_s": None})
    trainable = tune.with_resources(
        tune.with_parameters(
            run_trial, app=app, root=str(root), dataset=str(dataset_directory), base=base.model_dump(mode="json")
        ),
        _resources(kept_off({"CPU": CPUS_A_TRIAL})),
    )
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    folder = scratch / "search"
    results = continued(
        folder,
        lambda: _restored(folder, trainable, spec, progress).fit() if tune.Tuner.can_restore(str(folder)) else None,
        lambda: _tuner(trainable, spec, settings, epochs, folder, progress).fit(),
        progress,
    )
    finished = [r for r in results if r.metrics and "accuracy" in r.metrics]
    if not finished:
        raise StageFailed(f"none of the {spec.trials} trials finished: {_first_error(results)}")
    best = max(finished, key=lambda r: float(r.metrics["accuracy"]))
    reached = float(best.metrics["accuracy"])
    # Ray Tune counts a trial as finished only after it has told of its end.
    progress(1.0, _said(len(finished), spec.trials, reached), trials=len(finished), best_validation_accuracy=reached)
    trials: list[Json] = [
        {"params": r.config, "accuracy": r.metrics["accuracy"], "epochs": r.metrics["epoch"]} for r in finished
    ]
    found: JsonObject = {"params": best.config, "accuracy": best.metrics["accuracy"], "trials": trials}
    (output / "best.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return {"params": best.config, "validation_accuracy": best.metrics["accuracy"], "trials": len(trials)}


def continued(
    folder: Path,
    restored: Callable[[], tune.ResultGrid | None],
    fresh: Callable[[], tune.ResultGrid],
    progress: Tell,
) -> tune.ResultGrid:
    """The results of the search in `folder`, gone on with where it can be; None of `restored` says that there is none.

    Ray Tune writes its state in several files, so a killed search may leave one that cannot be gone on with: it costs
    the trials that had ended, and never the run.
    """
    try:
        if (results := restored()) is not None:
            return results
    except ray.exceptions.RayError:
        raise  # the cluster is in trouble, and the state is not
    except Exception as error:
        progress(None, f"begins again, as the interrupted search cannot go on: {error}")
    shutil.rmtree(folder, ignore_errors=True)
    return fresh()


def run_trial(config: Mapping[str, Any], *, app: str, root: str, dataset: str, base: JsonObject) -> None:
    """One trial: a short training on one thread that reports its validation accuracy after each epoch."""
    import torch

    give_way()
    torch.set_num_threads(1)
    settings = with_found(TrainSpec.model_validate_json(json.dumps(base)), config)
    prepared = open_prepared(Path(dataset))
    fit(
        load_app(app, Path(root)),
        prepared,
        model_params(prepared, settings),
        settings,
        clock=SystemClock(),
        on_epoch=lambda report: tune.report(
            {"epoch": report.epoch, "accuracy": report.accuracy or 0.0, "loss": report.loss}
        ),
    )


def with_found(settings: TrainSpec, found: Mapping[str, Json]) -> TrainSpec:
    """The settings with searched parameters: fields of TrainSpec by name, all others as options of the model."""
    own = {k: v for k, v in found.items() if k in TrainSpec.model_fields and k != "params"}
    options = {k: v for k, v in found.items() if k not in TrainSpec.model_fields}
    merged = settings.model_dump(mode="json") | own
    merged["params"] = {**settings.params, **options}
    return TrainSpec.model_validate_json(json.dumps(merged))


def parameter_space(space: Mapping[str, Mapping[str, Json]]) -> dict[str, Any]:
    """The spec's `search.space` in Ray Tune's terms."""
    return {name: _domain(name, domain) for name, domain in space.items()}


def _domain(name: str, domain: Mapping[str, Json]) -> Any:  # noqa: ANN401 - Ray Tune's domains share no public type
    match dict(domain):
        case {"log": [float() | int() as low, float() | int() as high]}:
            return tune.loguniform(float(low), float(high))
        case {"uniform": [float() | int() as low, float() | int() as high]}:
            return tune.uniform(float(low), float(high))
        case {"int": [int() as low, int() as high]}:
            return tune.randint(low, high + 1)
        case {"choice": [*values]}:
            return tune.choice(list(values))
    raise UserError(
        f"search.space.{name}: {dict(domain)} is not a range",
        remedy="write {log: [low, high]}, {uniform: [low, high]}, {int: [low, high]} or {choice: [...]}",
    )


def _restored(folder: Path, trainable: object, spec: SearchSpec, progress: Tell) -> tune.Tuner:
    tuner = tune.Tuner.restore(str(folder), trainable, resume_unfinished=True, restart_errored=True)
    tuner._local_tuner._run_config.callbacks = [_TrialNews(spec.trials, progress)]
    return tuner


def _tuner(
    trainable: object,
    spec: SearchSpec,
    settings: TrainSpec,
    epochs: int,
    folder: Path,
    progress: Tell,
) -> tune.Tuner:
    space = OptunaSearch.convert_search_space(parameter_space(spec.space))
    cpus = int(sum(n.cpus for n in nodes()))
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=spec.trials,
            # The space is given here, as the searcher would otherwise learn it after its state is first saved.
            search_alg=OptunaSearch(space, metric="accuracy", mode="max", seed=settings.seed),
            scheduler=ASHAScheduler(
                time_attr="epoch", max_t=epochs, grace_period=max(1, epochs // 4), reduction_factor=REDUCTION
            ),
            max_concurrent_trials=max(1, min(spec.concurrent, cpus)),
            time_budget_s=spec.time_limit_s,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
            callbacks=[_TrialNews(spec.trials, progress)],
        ),
    )


def _first_error(results: tune.ResultGrid) -> str:
    errors = [str(error).strip().splitlines()[-1] for error in results.errors]
    return errors[0][:300] if errors else "no error was reported"


def _resources(closed: Sequence[str]) -> tune.PlacementGroupFactory:
    """What a trial reserves, on none of the closed nodes."""
    where = {"bundle_label_selector": [selector(closed)]} if closed else {}
    return tune.PlacementGroupFactory([{"CPU": CPUS_A_TRIAL}], **where)


class _TrialNews(tune.Callback):  # type: ignore[misc]
    """Counts finished trials for the person who waits; lives in the driver, so it can call it."""

    def __init__(self, trials: int, progress: Tell) -> None:
        self._trials, self._progress = trials, progress

    def __getstate__(self) -> dict[str, int]:
        return {"_trials": self._trials}  # Ray Tune saves its callbacks; a connection to a terminal cannot be saved

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: Any, **_: object) -> None:  # noqa: ANN401
        self._tell(trials)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: object) -> None:
        self._tell(trials)

    def _tell(self, trials: list[Trial]) -> None:
        """Counts from Ray Tune's own list, in which trials from before an interruption stand too."""
        ended = sum(trial.is_finished() for trial in trials)
        best = max((float((trial.last_result or {}).get("accuracy", 0.0)) for trial in trials), default=0.0)
        message = _said(ended, self._trials, best)
        self._progress(min(1.0, ended / self._trials), message, trials=ended, best_validation_accuracy=best)


def _said(ended: int, trials: int, best: float) -> str:
    return f"{ended}/{trials} trials, best validation accuracy {best:.3f}"
