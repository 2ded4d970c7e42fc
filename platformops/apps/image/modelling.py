"""Which network a name stands for; torch is imported only when one is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platformops.apps.contract import ModelParams

if TYPE_CHECKING:
    import torch


def build_model(params: ModelParams) -> torch.nn.Module:
    """A network that takes uint8 (rows, height, width, channels) and returns logits; normalisation is inside.

    `small_cnn`, `resnet9`, or `torchvision:NAME` with random weights. Raises AppError for other names and options.
    """
    from platformops.apps.image.networks import build

    return build(params)
