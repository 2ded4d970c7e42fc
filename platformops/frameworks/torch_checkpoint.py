"""A training put on disk and taken up again: tensors as safetensors, the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from platformops.errors import ArtifactCorrupt
from platformops.frameworks.records import EpochReport
from platformops.frameworks.torch_optimizer import SlowWeights, optimizer_tensors, restore_optimizer
from platformops.frameworks.weights import check_weights, disk_errors
from platformops.store.records import Json

TENSORS = "training.safetensors"
STATE = "training.json"
FORMAT = 1
MODEL, OPTIMIZER, SLOW = "model.", "optimizer.", "slow."


@dataclass
class Position:
    """Where a training is. There is no generator state: dice are seeded by epoch and step."""

    epoch: int = 0
    """Completed epochs."""
    step: int = 0
    """Completed steps of the epoch that is under way."""
    elapsed_s: float = 0.0
    loss_sum: float = 0.0
    """Over the steps of the epoch that is under way."""
    history: tuple[EpochReport, ...] = ()


@dataclass(frozen=True)
class TorchCheckpoint:
    """A view on a live training: it must be written before training goes on."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    slow: SlowWeights | None
    position: Position

    @property
    def epoch(self) -> int:
        return self.position.epoch

    @property
    def step(self) -> int:
        return self.position.step

    def write(self, directory: Path) -> None:
        """Two files in `directory`, which exists."""
        tensors = {MODEL + name: value for name, value in self.model.state_dict().items()}
        tensors |= {OPTIMIZER + name: value for name, value in optimizer_tensors(self.model, self.optimizer)}
        if self.slow is not None:
            tensors |= {SLOW + name: value for name, value in self.slow.tensors.items()}
        with disk_errors(directory / TENSORS):
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, directory / TENSORS)
        position = self.position
        state: dict[str, Json] = {
            "format": FORMAT,
            "epoch": position.epoch,
            "step": position.step,
            "elapsed_s": position.elapsed_s,
            "loss_sum": position.loss_sum,
            "history": [report.as_json() for report in position.history],
        }
        (directory / STATE).write_text(json.dumps(state), encoding="utf-8")

    def read(self, directory: Path) -> Position:
        """Brings model, optimizer and mean to what `write` left in `directory`; returns where that was."""
        state = json.loads((directory / STATE).read_text(encoding="utf-8"))
        if state.get("format") != FORMAT:
            raise ArtifactCorrupt(f"{directory / STATE}: format {state.get('format')!r} is not {FORMAT}")
        check_weights(directory / TENSORS)
        tensors = load_file(directory / TENSORS)
        self.model.load_state_dict(_under(MODEL, tensors))
        restore_optimizer(self.model, self.optimizer, _under(OPTIMIZER, tensors))
        if self.slow is not None:
            for name, value in _under(SLOW, tensors).items():
                self.slow.tensors[name].copy_(value)
        history = tuple(EpochReport(**report) for report in state["history"])
        return Position(state["epoch"], state["step"], state["elapsed_s"], state["loss_sum"], history)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
