"""Fitting, saving and loading torch models: the surface that the rest of the platform calls.

Importing this module imports no torch: a replica that serves an ONNX model never needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from platformops.apps.contract import App, Batch, ModelParams, Operation
from platformops.apps.prepared import PreparedDataset
from platformops.clock import Clock
from platformops.frameworks.records import Checkpoint, EpochReport, Fitted, Predictor, Runtime, Saved, Section, World
from platformops.spec.types import TrainSpec

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "EpochReport", "Fitted", "Predictor", "Saved", "World", "fit", "load_predictor", "save_model"]


def fit(
    app: App,
    dataset: PreparedDataset,
    params: ModelParams,
    settings: TrainSpec,
    *,
    clock: Clock,
    device: str = "cpu",
    world: World = World(),  # noqa: B008 - frozen
    wrap: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
    resume: Path | None = None,
    save_checkpoint: Callable[[Checkpoint], None] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint_due: Callable[[], bool] | None = None,
    on_section: Callable[[Section], None] | None = None,
) -> Fitted:
    """A model fitted to the train split, with its history; `finished` is False where `should_stop` ended it.

    Every rank calls it alike inside an initialised process group; `settings.batch_size` is that of all ranks together.
    `save_checkpoint` is called on every rank after each epoch, and when stopped; with `checkpoint_due`, after each step
    and epoch for which that says so, and at the end: `Checkpoint.write(directory)` on rank 0 is enough, and ranks need
    not agree. Continuing from such a directory gives the same weights as not having stopped.
    `on_section` is told what begins: a step, the validation of an epoch, a checkpoint.
    Raises PlatformError when the loss is not a number, or the data cannot be trained on.
    """
    from platformops.frameworks.torch_fit import fit_model

    return fit_model(
        app, dataset, params, settings, clock=clock, device=device, world=world, wrap=wrap, resume=resume,
        save_checkpoint=save_checkpoint, on_epoch=on_epoch, should_stop=should_stop,
        checkpoint_due=checkpoint_due, on_section=on_section,
    )  # fmt: skip


def save_model(
    model: torch.nn.Module,
    params: ModelParams,
    operations: Sequence[Operation],
    app: str,
    directory: Path,
    *,
    rows: Batch,
) -> Saved:
    """Writes `model.safetensors`, `model.json`, and `model.onnx` where its answers to `rows` are those of torch.

    `app` is the spec's reference; `rows` are real input batches (rows, height, width, channels), a few dozen.
    """
    from platformops.frameworks.torch_save import write_model

    return write_model(model, params, operations, app, directory, rows=rows)


def load_predictor(
    directory: Path, *, runtime: Runtime = "auto", threads: int = 1, app: App | None = None
) -> Predictor:
    """Batch of uint8 rows -> class probabilities (float32), from a directory that `save_model` wrote.

    `auto` takes the ONNX model where there is one. `app` is needed only to build a model of the user's own for torch.
    Nothing is unpickled; raises ArtifactCorrupt for weights that are not what their header and `model.json` say.
    """
    from platformops.frameworks.predictor import open_predictor

    return open_predictor(directory, runtime=runtime, threads=threads, app=app)
