"""One rank of a training: fits, checkpoints, reports, and leaves the model (rank 0)."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.experimental import internal_kv

from platformops.apps.contract import App, ModelParams
from platformops.apps.load import load_app
from platformops.apps.prepared import PreparedDataset, open_prepared
from platformops.clock import SystemClock
from platformops.errors import StageFailed
from platformops.frameworks.records import Checkpoint, EpochReport, Fitted, World
from platformops.frameworks.torch import fit, save_model
from platformops.on_ray import spares
from platformops.on_ray.cadence import Cadence
from platformops.on_ray.checkpoints import make_room, newest_verified, write_checkpoint
from platformops.on_ray.gangs import hazard_file, request_file
from platformops.on_ray.priority import give_way
from platformops.on_ray.pulse import Pulse
from platformops.on_ray.stuck import Section
from platformops.spec.types import TrainSpec
from platformops.store.records import Json, JsonObject

if TYPE_CHECKING:
    import torch
    from torch._C._distributed_c10d import GradBucket
    from torch.distributed import ProcessGroup

REPORT_EVERY_S = 2.0
PARITY_ROWS = 64
IMPORTED = (
    "ray.train.torch", "ray.train.v2._internal.execution.worker_group.worker", "torch.distributed",
    "platformops.frameworks.torch_fit", "torch._dynamo",
)  # fmt: skip
"""What a rank imports between its start and its first step; torch's optimizers import the last, which nothing here
uses, when one is made: that takes seconds."""


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """Everything a worker needs, as plain values."""

    app: str
    root: str
    dataset: str
    settings: JsonObject
    checkpoints: str
    output: str
    threads: int
    use_gpu: bool
    news_key: str
    beats: str
    """Folder of the ranks' heartbeats."""


def import_all() -> None:
    """Done beforehand, what takes longest."""
    for name in IMPORTED:
        import_module(name)


def model_params(dataset: PreparedDataset, settings: TrainSpec) -> ModelParams:
    """How the model for this dataset is built."""
    return ModelParams(
        model=settings.model,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
        options=settings.params,
    )


def run_worker(config: dict[str, Any]) -> None:
    """What Ray Train calls on every rank; `config` is a TrainingOrder as a dict."""
    give_way()
    order = TrainingOrder(**config)
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    node = str(ray.get_runtime_context().get_node_id())
    with Pulse(Path(order.beats), world.rank, SystemClock(), node=node) as pulse:
        _train(order, world, pulse)


def _train(order: TrainingOrder, world: World, pulse: Pulse) -> None:
    import torch

    torch.set_num_threads(order.threads)
    settings = TrainSpec.model_validate_json(json.dumps(order.settings))
    app, dataset = load_app(order.app, Path(order.root)), open_prepared(Path(order.dataset))
    resume, damaged = newest_verified(Path(order.checkpoints)) if world.rank == 0 else (None, ())
    if world.rank == 0:
        make_room(Path(order.checkpoints))
    resume = _agreed(resume, world)
    pulse.resumed(resume.name if resume else "")
    saver = _Saver(Path(order.checkpoints), Path(order.beats), world, pulse)
    reporter = _Reporter(order.news_key, world, damaged)
    fitted = fit(
        app,
        dataset,
        model_params(dataset, settings),
        settings,
        clock=SystemClock(),
        device="cuda" if order.use_gpu else "cpu",
        world=world,
        wrap=partial(_data_parallel, pulse) if world.size > 1 else None,
        resume=resume,
        save_checkpoint=saver.save,
        on_epoch=reporter.epoch,
        should_stop=reporter.preempted,
        checkpoint_due=saver.is_due,
        on_section=lambda section: pulse.enter(Section(section)),
    )
    pulse.enter(Section.FINISH)
    if not fitted.finished:
        raise StageFailed("the node is being taken away; the checkpoint is written and training continues elsewhere")
    if world.rank == 0:
        _leave_model(fitted, order, app, dataset, settings)
    ray.train.report({"finished": 1})


class _Saver:
    """Writes rank 0's checkpoints, as often as they are worth it."""

    def __init__(self, folder: Path, beats: Path, world: World, pulse: Pulse) -> None:
        self._folder, self._world, self._pulse, self._clock = folder, world, pulse, SystemClock()
        self._cadence = Cadence(
            self._clock, failures=pulse.groups - 1, request=request_file(beats), hazard=hazard_file(beats)
        )

    def is_due(self) -> bool:
        """Other ranks have nothing to write: they wait for rank 0 in their next common step."""
        return self._world.rank == 0 and self._cadence.is_due()

    def save(self, checkpoint: Checkpoint) -> None:
        if self._world.rank != 0:
            return
        began = self._clock.monotonic()
        written = write_checkpoint(self._folder, checkpoint.epoch, checkpoint.write, step=checkpoint.step)
        self._cadence.saved(self._clock.monotonic() - began)
        self._pulse.saved(written.name)


def _agreed(resume: Path | None, world: World) -> Path | None:
    """Rank 0's choice, on every rank: two ranks must never continue from different epochs."""
    if world.size == 1:
        return resume
    import torch.distributed as distributed

    chosen = [str(resume or "")]
    distributed.broadcast_object_list(chosen, src=0)
    return Path(chosen[0]) if chosen[0] else None


def _data_parallel(pulse: Pulse, model: torch.nn.Module) -> torch.nn.Module:
    """The model with averaged gradients; on processors `pulse` learns when this rank's own part of a step is done. A
    GPU is given its work long before it does it, so that there the whole step counts."""
    from torch.nn.parallel import DistributedDataParallel

    parallel = DistributedDataParallel(model)
    if not next(model.parameters()).is_cuda:
        # A lambda, since torch compares the annotations of a hook with its own types.
        parallel.register_comm_hook(pulse, lambda pulse, bucket: _averaged(parallel.process_group, pulse, bucket))
    return parallel


def _averaged(group: ProcessGroup, pulse: Pulse, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    pulse.ready()
    return allreduce_hook(group, bucket)


class _Reporter:
    """Tells the driver and Ray Train how far this rank is, seldom enough to cost nothing."""

    def __init__(self, news_key: str, world: World, damaged: tuple[str, ...]) -> None:
        self._key, self._world, self._damaged = news_key, world, damaged
        self._reported_at = time.monotonic()
        self._checked_at = time.monotonic()
        self._has_spare = False

    def epoch(self, report: EpochReport) -> None:
        if self._world.rank == 0:
            news = report.as_json() | {"damaged": list(self._damaged)}
            internal_kv._internal_kv_put(self._key, json.dumps(news).encode(), overwrite=True)
        self._reserve(report)
        # With several ranks the report is a barrier: all of them must decide alike, so they count epochs, not seconds.
        if self._world.size > 1 or time.monotonic() - self._reported_at >= REPORT_EVERY_S:
            self._reported_at = time.monotonic()
            ray.train.report({"epoch": report.epoch, "loss": report.loss})

    def _reserve(self, report: EpochReport) -> None:
        """A process in reserve beside every rank, once training has shown that it takes long enough."""
        if not self._has_spare and spares.is_worth_it(report.elapsed_s, report.progress_ratio):
            self._has_spare = True
            threading.Thread(target=spares.ask_for_one, name="spare", daemon=True).start()

    def preempted(self) -> bool:
        """True when Ray says that a node of this training is going away."""
        if self._world.size == 1 and time.monotonic() - self._checked_at < REPORT_EVERY_S:
            return False
        self._checked_at = time.monotonic()
        return ray.train.get_preemption_info() is not None


def _leave_model(fitted: Fitted, order: TrainingOrder, app: App, dataset: PreparedDataset, settings: TrainSpec) -> None:
    output = Path(order.output)
    for leftover in output.iterdir():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    rows = app.transform(list(dataset.splits["validation"].images.slice(0, PARITY_ROWS)), dataset.remaining)
    saved = save_model(fitted.model, model_params(dataset, settings), dataset.operations, order.app, output, rows=rows)
    if order.app.endswith(".py"):
        shutil.copyfile(Path(order.root) / order.app, output / "app.py")
    history = fitted.history
    epochs: list[Json] = [report.as_json() for report in history]
    (output / "history.json").write_text(json.dumps(epochs, indent=1), encoding="utf-8")
    summary: Mapping[str, Json] = {
        "parameters": saved.parameters,
        "onnx": saved.onnx,
        "onnx_reason": saved.reason,
        "epochs": len(history),
        "train_s": history[-1].elapsed_s if history else 0.0,
        "images_per_s": history[-1].images_per_s if history else 0.0,
        "validation_accuracy": history[-1].accuracy if history else None,
    }
    (output / "training.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
