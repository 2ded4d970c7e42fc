"""Which rows a training step sees, and with which dice: decided by seed, epoch, step and rank alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from platformops.apps.contract import App
from platformops.apps.prepared import PreparedDataset
from platformops.errors import PlatformError
from platformops.frameworks.records import World


@dataclass(frozen=True)
class Batches:
    """The training split in batches; any step of any epoch can be had without those before it."""

    app: App
    dataset: PreparedDataset
    batch_size: int
    """Of all ranks together."""
    seed: int
    world: World

    @property
    def steps(self) -> int:
        """Of one epoch; a last batch that is not full is left out where there is a full one."""
        return max(1, len(self.dataset.splits["train"].images) // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The rows of an epoch, shuffled; the same on every rank."""
        rows = len(self.dataset.splits["train"].images)
        if rows < self.world.size:
            raise PlatformError(f"{rows} training rows cannot feed {self.world.size} workers", remedy="more data")
        return np.random.default_rng([self.seed, epoch]).permutation(rows)

    def load(self, order: NDArray[np.int64], epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """This rank's share of a step: uint8 images after augmentation, and labels. Also seeds torch's dice."""
        mine = order[step * self.batch_size : (step + 1) * self.batch_size][self.world.rank :: self.world.size]
        dice = np.random.SeedSequence([self.seed, epoch, step, self.world.rank])
        train = self.dataset.splits["train"]
        images = self.app.augment(train.images.gather(mine), self.dataset.remaining, np.random.default_rng(dice))
        torch.manual_seed(int(dice.generate_state(1)[0]))
        return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(train.labels[mine])

    def sample(self, rows: int) -> Tensor:
        """Some training rows as the model sees them where there is no chance, the same on every rank."""
        chosen = np.sort(self.order(0)[:rows])
        images = self.app.transform(self.dataset.splits["train"].images.gather(chosen), self.dataset.remaining)
        return torch.from_numpy(np.ascontiguousarray(images))
