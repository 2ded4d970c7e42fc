"""The training loop: one process alone, or one of several that fit the same model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from platformops.apps.contract import App, ModelParams
from platformops.apps.prepared import PreparedDataset
from platformops.clock import Clock
from platformops.errors import PlatformError
from platformops.frameworks.records import Checkpoint, EpochReport, Fitted, Section, World
from platformops.frameworks.schedule import Schedule
from platformops.frameworks.torch_batches import Batches
from platformops.frameworks.torch_checkpoint import Position, TorchCheckpoint
from platformops.frameworks.torch_evaluate import accuracy
from platformops.frameworks.torch_optimizer import AVERAGE_EVERY_STEPS, SlowWeights, optimizer_for, set_rate
from platformops.frameworks.torch_options import FitOptions, split_options
from platformops.frameworks.torch_world import agreed_highest, broadcast_buffers, precision_of
from platformops.spec.types import TrainSpec

CALIBRATION_ROWS = 512
STOP_CHECK_S = 1.0
"""Asking whether to stop can be a round trip between machines: not every step."""


@dataclass
class _Training:
    """Everything that one rank needs to go on from `position`."""

    model: nn.Module
    wrapped: nn.Module
    batches: Batches
    schedule: Schedule
    settings: TrainSpec
    options: FitOptions
    optimizer: torch.optim.Optimizer
    slow: SlowWeights | None
    position: Position
    clock: Clock
    device: torch.device
    started_at: float
    should_stop: Callable[[], bool] | None
    save: Callable[[Checkpoint], None] | None
    is_due: Callable[[], bool] | None
    enter: Callable[[Section], None]
    asked_at: float = -STOP_CHECK_S

    def elapsed_s(self) -> float:
        """Since the beginning, stops not counted; ranks agree on it, for it decides when they end."""
        return agreed_highest(self.clock.monotonic() - self.started_at, self.batches.world, self.device)

    def checkpoint(self) -> TorchCheckpoint:
        return TorchCheckpoint(self.model, self.optimizer, self.slow, self.position)

    def keep(self) -> None:
        """Hands a checkpoint to whoever keeps them."""
        if self.save is not None:
            self.enter("checkpoint")
            self.save(self.checkpoint())


def fit_model(
    app: App,
    dataset: PreparedDataset,
    params: ModelParams,
    settings: TrainSpec,
    *,
    clock: Clock,
    device: str,
    world: World,
    wrap: Callable[[nn.Module], nn.Module] | None,
    resume: Path | None,
    save_checkpoint: Callable[[Checkpoint], None] | None,
    on_epoch: Callable[[EpochReport], None] | None,
    should_stop: Callable[[], bool] | None,
    checkpoint_due: Callable[[], bool] | None,
    on_section: Callable[[Section], None] | None,
) -> Fitted:
    """See `platformops.frameworks.torch.fit`."""
    if len(dataset.splits["train"].images) == 0:
        raise PlatformError("the training split is empty", remedy="give data.split.train a larger share")
    options, model_params = split_options(params)
    batches = Batches(app, dataset, settings.batch_size, settings.seed, world)
    torch.manual_seed(settings.seed)
    model = app.build_model(model_params)
    calibrate = getattr(model, "calibrate", None)
    if resume is None and callable(calibrate):
        calibrate(batches.sample(CALIBRATION_ROWS))
    model.to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = _begin(
        model, batches, settings, options, clock, torch.device(device), wrap, should_stop, resume, save_checkpoint,
        checkpoint_due, on_section,
    )  # fmt: skip
    finished = True
    while finished and training.position.epoch < settings.epochs and not _is_over(training):
        finished = _run_epoch(training)
        report = _close_epoch(training) if finished else None
        is_last = not finished or training.position.epoch >= settings.epochs or _is_over(training)
        if is_last or checkpoint_due is None or checkpoint_due():
            training.keep()
        if report is not None and on_epoch is not None:
            on_epoch(report)
    if training.slow is not None and finished:
        training.slow.swap(model)
    return Fitted(model.cpu().eval(), training.position.history, finished)


def _begin(
    model: nn.Module,
    batches: Batches,
    settings: TrainSpec,
    options: FitOptions,
    clock: Clock,
    device: torch.device,
    wrap: Callable[[nn.Module], nn.Module] | None,
    should_stop: Callable[[], bool] | None,
    resume: Path | None,
    save: Callable[[Checkpoint], None] | None,
    is_due: Callable[[], bool] | None,
    on_section: Callable[[Section], None] | None,
) -> _Training:
    optimizer = optimizer_for(model, settings, options)
    slow = SlowWeights(model) if options.averaging != "off" else None
    position = Position()
    if resume is not None:
        position = TorchCheckpoint(model, optimizer, slow, position).read(resume)
    schedule = Schedule(
        settings.lr, settings.epochs * batches.steps, settings.time_limit_s, options.warmup, options.last_rate
    )
    return _Training(
        model=model,
        wrapped=wrap(model) if wrap else model,
        batches=batches,
        schedule=schedule,
        settings=settings,
        options=options,
        optimizer=optimizer,
        slow=slow,
        position=position,
        clock=clock,
        device=device,
        started_at=clock.monotonic() - position.elapsed_s,
        should_stop=should_stop,
        save=save,
        is_due=is_due,
        enter=on_section or (lambda _: None),
    )


def _progress(training: _Training, elapsed_s: float) -> float:
    step = training.position.epoch * training.batches.steps + training.position.step
    return training.schedule.progress(step, elapsed_s)


def _is_over(training: _Training) -> bool:
    return _progress(training, training.position.elapsed_s) >= 1.0


def _run_epoch(training: _Training) -> bool:
    """Steps to the end of the epoch or of the time; False when it was asked to stop."""
    position = training.position
    order = training.batches.order(position.epoch)
    training.wrapped.train()
    while position.step < training.batches.steps:
        elapsed_s = training.elapsed_s()
        progress = _progress(training, elapsed_s)
        if progress >= 1.0:
            break
        position.elapsed_s = elapsed_s
        if _must_stop(training, elapsed_s):
            return False
        training.enter("step")
        images, labels = training.batches.load(order, position.epoch, position.step)
        position.loss_sum += _step(training, images, labels, progress)
        position.step += 1
        if training.is_due is not None and position.step < training.batches.steps and training.is_due():
            training.keep()
    return True


def _must_stop(training: _Training, elapsed_s: float) -> bool:
    if training.should_stop is None or elapsed_s < training.asked_at + STOP_CHECK_S:
        return False
    training.asked_at = elapsed_s
    return agreed_highest(float(training.should_stop()), training.batches.world, training.device) > 0


def _step(training: _Training, images: Tensor, labels: Tensor, progress: float) -> float:
    set_rate(training.optimizer, training.schedule.rate(progress))
    labels = labels.to(training.device)
    with precision_of(training.settings.precision, training.device):
        logits = training.wrapped(images.to(training.device))
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=training.settings.label_smoothing)
    value = loss.item()
    if not math.isfinite(value):
        epoch, step = training.position.epoch + 1, training.position.step + 1
        raise PlatformError(
            f"the training loss became {value} in epoch {epoch}, step {step}",
            remedy="lower train.lr, or train with precision: float32",
        )
    training.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    if training.slow is not None and (training.position.step + 1) % AVERAGE_EVERY_STEPS == 0:
        training.slow.update(training.model, progress, pull=training.options.averaging == "lookahead")
    return value


def _close_epoch(training: _Training) -> EpochReport:
    training.enter("validation")
    position, world = training.position, training.batches.world
    steps_s = max(training.elapsed_s() - (position.history[-1].elapsed_s if position.history else 0.0), 1e-9)
    broadcast_buffers(training.model, world)
    measured = _validation_accuracy(training)
    position.elapsed_s = training.elapsed_s()
    progress = _progress(training, position.elapsed_s)
    report = EpochReport(
        epoch=position.epoch + 1,
        epochs=training.settings.epochs,
        progress_ratio=progress,
        loss=position.loss_sum / max(position.step, 1),
        accuracy=measured,
        lr=training.schedule.rate(progress),
        images_per_s=position.step * training.settings.batch_size / steps_s,
        elapsed_s=position.elapsed_s,
    )
    training.position = replace(
        position, epoch=position.epoch + 1, step=0, loss_sum=0.0, history=(*position.history, report)
    )
    return report


def _validation_accuracy(training: _Training) -> float | None:
    if training.slow is not None:
        training.slow.swap(training.model)
    try:
        with precision_of(training.settings.precision, training.device):
            return accuracy(training.model, training.batches, training.device)
    finally:
        if training.slow is not None:
            training.slow.swap(training.model)
