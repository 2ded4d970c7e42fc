"""Accuracy of a model on the validation split while it is being fitted."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from platformops.frameworks.torch_batches import Batches
from platformops.frameworks.torch_world import agreed_sums

EVALUATION_ROWS = 512


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches, device: torch.device) -> float | None:
    """Share of validation rows that the model gets right, each rank counting its own; None without such rows."""
    split = batches.dataset.splits.get("validation")
    if split is None or split.rows == 0:
        return None
    mine = np.arange(split.rows)[batches.world.rank :: batches.world.size]
    was_training = model.training
    model.eval()
    right = 0
    for start in range(0, len(mine), EVALUATION_ROWS):
        rows = mine[start : start + EVALUATION_ROWS]
        images = batches.app.transform(split.images.gather(rows), batches.dataset.remaining)
        best = model(torch.from_numpy(np.ascontiguousarray(images)).to(device)).argmax(dim=1).cpu().numpy()
        right += int((best == split.labels[rows]).sum())
    model.train(was_training)
    total_right, total = agreed_sums((float(right), float(len(mine))), batches.world, device)
    return total_right / total
