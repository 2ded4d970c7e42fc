"""The built-in stages: each takes the artifacts of its parents and leaves its own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from platformops.errors import DataRefused
from platformops.on_ray.session import attach
from platformops.pipeline.records import StageContext
from platformops.pipeline.sources import located
from platformops.spec.types import CheckSpec, SearchSpec, SplitSpec, TrainSpec
from platformops.store.records import Json, JsonObject


def prepare(
    context: StageContext,
    *,
    app: str,
    source: str,
    test: str | None,
    split: JsonObject,
    operations: Sequence[Mapping[str, Json]],
    check: JsonObject,
    options: JsonObject,
) -> JsonObject:
    """Raw rows -> prepared uint8 shards of three splits."""
    context.progress(None, "joining the cluster")
    attach()
    from platformops.on_ray import data

    request = data.Request(
        app=app,
        root=context.root,
        source=_located(source, context),
        test=_located(test, context) if test else None,
        split=SplitSpec.model_validate_json(json.dumps(split)),
        operations=operations,
        check=CheckSpec.model_validate_json(json.dumps(check)),
        options=options,
    )
    return data.prepare(request, context.output, context.progress)


def search(context: StageContext, *, app: str, search: JsonObject, train: JsonObject) -> JsonObject:
    """Prepared data -> the best parameters of a Ray Tune search."""
    attach()
    from platformops.on_ray.search import search as run_search

    return run_search(
        app=app,
        root=context.root,
        dataset_directory=context.inputs["prepare"],
        spec=SearchSpec.model_validate_json(json.dumps(search)),
        settings=_settings(train),
        scratch=context.scratch,
        output=context.output,
        progress=context.progress,
    )


def train(context: StageContext, *, app: str, train: JsonObject) -> JsonObject:
    """Prepared data and what the search found -> a fitted model."""
    attach()
    from platformops.on_ray.search import with_found
    from platformops.on_ray.training import train as run_training

    settings = _settings(train)
    if "search" in context.inputs:
        found = json.loads((context.inputs["search"] / "best.json").read_text(encoding="utf-8"))
        settings = with_found(settings, found["params"])
    return run_training(
        app=app,
        root=context.root,
        dataset_directory=context.inputs["prepare"],
        settings=settings,
        scratch=context.scratch,
        output=context.output,
        name=f"train-{context.fingerprint[:12]}",
        progress=context.progress,
    )


def evaluate(context: StageContext, *, app: str) -> JsonObject:
    """A fitted model -> its figures on the test split, and a report with pictures."""
    attach()
    from platformops.on_ray.evaluation import evaluate as run_evaluation
    from platformops.on_ray.evaluation import flat_metrics
    from platformops.on_ray.picturing import write_report

    evaluated = run_evaluation(
        app=app,
        root=context.root,
        dataset_directory=context.inputs["prepare"],
        model_directory=context.inputs["train"],
        output=context.output,
        progress=context.progress,
    )
    context.progress(None, "drawing the report")
    write_report(evaluated.dataset, context.inputs["train"], evaluated.metrics, evaluated.probabilities, context.output)
    return flat_metrics(evaluated.metrics)


def _settings(train: JsonObject) -> TrainSpec:
    return TrainSpec.model_validate_json(json.dumps(train))


def _located(source: str, context: StageContext) -> str:
    """The source as functions of the app take it: `data://` and `stage://` resolved, paths from the spec's folder."""
    if source.startswith("data://"):
        folder = os.environ.get("PLATFORMOPS_DATA", "")
        if not folder:
            raise DataRefused(f"{source}: no data folder is set", remedy="set PLATFORMOPS_DATA to it")
        return located(source, root=context.root, data_root=Path(folder))
    if source.startswith("stage://"):
        return str(context.inputs[source.removeprefix("stage://")])
    return located(source, root=context.root, data_root=None)
