"""The optimizer of a model, and the slow copy of its weights that averaging keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from platformops.frameworks.torch_options import FitOptions
from platformops.spec.types import TrainSpec

AVERAGE_EVERY_STEPS = 5


def optimizer_for(model: nn.Module, settings: TrainSpec, options: FitOptions) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; only weights decay, biases and shifts do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay, "rate": 1.0},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "rate": options.bias_rate},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    nesterov = options.momentum > 0
    return torch.optim.SGD(groups, lr=settings.lr, momentum=options.momentum, nesterov=nesterov)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """(`<state>.<parameter name>`, tensor) of all that the optimizer remembers."""
    for name, parameter in model.named_parameters():
        for state, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                yield f"{state}.{name}", value


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        state, _, name = key.partition(".")
        parameter = parameters[name]
        moved = value.to(parameter.device) if value.ndim else value
        if value.ndim == 4:  # safetensors keeps values, not the channels-last order that they had in memory
            moved = moved.contiguous(memory_format=torch.channels_last)
        optimizer.state[parameter][state] = moved


class SlowWeights:
    """A moving mean of weights and running statistics, slower as training goes on."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = {k: v.detach().clone() for k, v in model.state_dict().items() if v.is_floating_point()}

    @torch.no_grad()
    def update(self, model: nn.Module, progress: float, *, pull: bool) -> None:
        """Moves the mean towards the model and, with `pull`, the model onto the mean."""
        share = 1 - 0.95**AVERAGE_EVERY_STEPS * progress**3
        state = model.state_dict()
        for name, slow in self.tensors.items():
            slow.lerp_(state[name], share)
            if pull:
                state[name].copy_(slow)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchanges the model's weights with the mean; a second call undoes it."""
        state = model.state_dict()
        for name, slow in self.tensors.items():
            fast = state[name].clone()
            state[name].copy_(slow)
            slow.copy_(fast)
