"""Plain records of the frameworks room: what fitting reports, and what loading gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from platformops.apps.contract import Batch, ModelParams, Operation, Outputs
from platformops.store.records import Json

if TYPE_CHECKING:
    import torch

Runtime = Literal["auto", "onnx", "torch"]
Section = Literal["step", "validation", "checkpoint"]


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that fit the model together."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True, slots=True)
class EpochReport:
    """News after one epoch; also one entry of `history.json`."""

    epoch: int
    """From 1."""
    epochs: int
    """Planned; fewer are run where `time_limit_s` ends training first."""
    progress_ratio: float
    """Of the whole training, 1.0 at its end."""
    loss: float
    """Mean training loss of the epoch."""
    accuracy: float | None
    """On the validation split; None where it is empty."""
    lr: float
    images_per_s: float
    elapsed_s: float
    """Of training so far, stops not counted."""

    def as_json(self) -> dict[str, Json]:
        return asdict(self)


class Checkpoint(Protocol):
    """All that continues a training, to be written aside by whoever keeps checkpoints."""

    @property
    def epoch(self) -> int:
        """Completed epochs."""
        ...

    @property
    def step(self) -> int:
        """Completed steps of the epoch that is under way."""
        ...

    def write(self, directory: Path) -> None:
        """Weights and optimizer state as safetensors, the rest as JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Fitted:
    model: torch.nn.Module
    """On the CPU, in evaluation mode."""
    history: tuple[EpochReport, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class Saved:
    parameters: int
    onnx: bool
    """False where the exported model's answers were not torch's, or it could not be exported."""
    reason: str
    """Why there is no ONNX model, or by how much its probabilities differ at most."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """A loaded model: `predictor(batch)` gives probabilities of shape (rows, classes)."""

    params: ModelParams
    operations: tuple[Operation, ...]
    app: str
    runtime: str
    """`onnx` or `torch`."""
    predict: Callable[[Batch], Outputs]

    def __call__(self, batch: Batch) -> Outputs:
        return self.predict(batch)

    @property
    def classes(self) -> Sequence[str]:
        return self.params.classes


ModelDescription = Mapping[str, Json]
